"""Cleaning of document texts before any filter looks at them."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

import numba
import numpy as np
import pyarrow as pa

from tasks.curation.characters import ASSIGNED_END, NUM_CODE_POINTS, VARIED, decode, text_buffers
from tasks.curation.config import NormalizationConfig
from tasks.curation.folding import composition_seconds

LINE_ENDS = re.compile("\r\n|[\r\x85\u2028\u2029]")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Joiners (U+200C, U+200D) and variation selectors stay: emoji and some kanji variants are spelled with them.
INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
TRAILING = " \t\u3000"

PLAIN, SUSPECT, BLANK, LINE_END = 0, 1, 2, 3
"""What a character can mean: nothing to clean; perhaps something; space at a line's end; an empty line."""


def normalize_text(text: str, config: NormalizationConfig) -> str:
    """The cleaned text; cleaning it again changes nothing."""
    if config.unify_line_ends:
        text = LINE_ENDS.sub("\n", text)
    if config.remove_control_characters:
        text = CONTROL.sub("", text)
    if config.remove_invisible:
        text = INVISIBLE.sub("", text)
    if config.unicode_form != "none":
        text = unicodedata.normalize(config.unicode_form, text)
    if config.strip_trailing_spaces:
        # Line by line and not by a regular expression, which takes quadratic time on long runs of spaces.
        text = "\n".join([line.rstrip(TRAILING) for line in text.split("\n")]).strip("\n")
    if config.max_blank_lines is not None:
        text = re.sub(f"\n{{{config.max_blank_lines + 2},}}", "\n" * (config.max_blank_lines + 1), text)
    return text


def normalize_texts(texts: pa.Array, config: NormalizationConfig) -> tuple[pa.Array, np.ndarray]:
    """The cleaned texts and (documents,) bool, whether each was changed."""
    meanings = _meanings(config)  # pyright: ignore[reportArgumentType] - a frozen model has a hash
    suspects = np.flatnonzero(_suspects(*text_buffers(texts), meanings, *_layout(config)))
    changed = np.zeros(len(texts), dtype=bool)
    if not len(suspects):
        return texts, changed
    before = texts.take(pa.array(suspects)).to_pylist()
    after = [normalize_text(text, config) for text in before]
    changed[suspects] = [a != b for a, b in zip(before, after, strict=True)]
    if not changed.any():
        return texts, changed
    places = np.arange(len(texts))
    places[suspects] = len(texts) + np.arange(len(suspects))
    return pa.concat_arrays([texts, pa.array(after, type=texts.type)]).take(pa.array(places)), changed


def _layout(config: NormalizationConfig) -> tuple[bool, int]:
    """Whether line ends are stripped, and how many line feeds in a row are allowed."""
    longest = NUM_CODE_POINTS if config.max_blank_lines is None else config.max_blank_lines + 1
    return config.strip_trailing_spaces, longest


@cache
def _meanings(config: NormalizationConfig) -> np.ndarray:
    """(0x110000,) uint8: what each code point can mean; SUSPECT where any step could change it or its neighbours."""
    table = np.full(NUM_CODE_POINTS, SUSPECT, dtype=np.uint8)
    table[:ASSIGNED_END] = PLAIN
    if (form := config.unicode_form) != "none":
        for code in VARIED:
            character = chr(code)
            if unicodedata.normalize(form, character) != character or unicodedata.combining(character):
                table[code] = SUSPECT
        table[[ord(second) for second in composition_seconds()]] = SUSPECT
    matched = [(config.unify_line_ends, LINE_ENDS), (config.remove_control_characters, CONTROL)]
    for wanted, pattern in [*matched, (config.remove_invisible, INVISIBLE)]:
        if wanted:
            table[[ord(found) for found in pattern.findall("".join(map(chr, range(0x10000))))]] = SUSPECT
    table[[ord(character) for character in TRAILING if table[ord(character)] == PLAIN]] = BLANK
    table[ord("\n")] = LINE_END
    return table


@numba.njit(cache=True, nogil=True)
def _suspects(data, bounds, meanings, strip, longest):
    found = np.zeros(len(bounds) - 1, dtype=np.bool_)
    for document in range(len(found)):
        position, end = bounds[document], bounds[document + 1]
        before, in_a_row = LINE_END, 0
        while position < end:
            code, position = decode(data, position)
            meaning = meanings[code]
            in_a_row = in_a_row + 1 if meaning == LINE_END else 0
            at_a_border = strip and meaning == LINE_END and (before == BLANK or position == bounds[document] + 1)
            if meaning == SUSPECT or at_a_border or in_a_row > longest:
                found[document] = True
                break
            before = meaning
        if strip and end > bounds[document] and before != PLAIN:
            found[document] = True
    return found
