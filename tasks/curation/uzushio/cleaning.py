"""Cleaning of paragraph texts: link markers out, white space put right, empty lines dropped."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from tasks.curation.characters import text_buffers

LINK_START, LINK_END = "\x02", "\x03"
PATH_END = "\x1c"
HASH_SEED = 42

LINK = re.compile("\x02([^\x03]*)")
CONTROL_IN_LINK = re.compile("[\x00-\x1f\xa0]")
BLANK = "\x00\x01\x04-\x20\xa0"
BLANK_LINK = re.compile(f"\x02[{BLANK}]*\x03")
MARKERS = re.compile("[\x02\x03]")
BLANKS = re.compile(
    "[\x00\x01\x04-\x09\x0b-\x1f\xa0][\x00\x01\x04-\x09\x0b-\x20\xa0]*| [\x00\x01\x04-\x09\x0b-\x20\xa0]+"
)
"""Runs of blanks within a line, but for a single space, which stays as it is."""
SPACES = "".join(
    chr(code)
    for code in (*range(0x09, 0x0E), *range(0x1C, 0x21), 0x1680, *range(0x2000, 0x2007), *range(0x2008, 0x200B),
                 0x2028, 0x2029, 0x205F, 0x3000)
)  # fmt: skip
"""White space in Java's sense: no-break spaces are none."""
VISIBLE = re.compile("[^\x00-\x20\u3000]")

_SPACE_CLASS = r"[ \x{1680}\x{2000}-\x{2006}\x{2008}-\x{200a}\x{2028}\x{2029}\x{205f}\x{3000}]"
UNCLEAN = rf"[\x00-\x09\x0b-\x1f\x{{a0}}]|  |(^|\n)(\n|{_SPACE_CLASS})|{_SPACE_CLASS}(\n|$)|\n$"
"""What a text holds, in RE2's syntax, if cleaning may change it; most texts hold nothing of it."""


def clean_text(text: str) -> str:
    """A paragraph as it is written when only text is wanted: the text of links stays, their markers go."""
    text = LINK.sub(lambda link: LINK_START + CONTROL_IN_LINK.sub(" ", link[1]), text)
    return _clean_lines(MARKERS.sub("", BLANK_LINK.sub("", text)))


def comparison_text(text: str) -> str:
    """A paragraph as it is counted and compared: without any link marker."""
    return _clean_lines(MARKERS.sub("", text))


def clean_texts(texts: pa.Array) -> pa.Array:
    """`clean_text` of each."""
    return _cleaned(texts, clean_text)


def comparison_texts(texts: pa.Array) -> pa.Array:
    """`comparison_text` of each."""
    return _cleaned(texts, comparison_text)


def comparison_hashes(texts: pa.Array) -> np.ndarray:
    """(texts,) int64 xxHash64 with seed 42 of the UTF-8 of texts that `comparison_texts` made."""
    data, bounds = text_buffers(texts)
    view, ends = data.data, bounds.tolist()
    digest = xxhash.xxh64_intdigest
    hashes = [digest(view[start:stop], HASH_SEED) for start, stop in pairwise(ends)]
    return np.array(hashes, dtype=np.uint64).view(np.int64)


def _clean_lines(text: str) -> str:
    lines = [line.strip(SPACES) for line in BLANKS.sub(" ", text).split("\n")]
    return "\n".join([line for line in lines if VISIBLE.search(line)])


def _cleaned(texts: pa.Array, clean) -> pa.Array:
    unclean = pc.match_substring_regex(texts, UNCLEAN)
    if not pc.any(unclean).as_py():
        return texts
    after = [clean(text) for text in texts.filter(unclean).to_pylist()]
    return pc.replace_with_mask(texts, unclean, pa.array(after, texts.type))
