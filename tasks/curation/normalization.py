"""Cleaning of document texts before any filter looks at them."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pyarrow as pa

from tasks.curation.config import NormalizationConfig

LINE_ENDS = re.compile("\r\n|[\r\x85\u2028\u2029]")
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Joiners (U+200C, U+200D) and variation selectors stay: emoji and some kanji variants are spelled with them.
INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
TRAILING = " \t\u3000"


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
    before = texts.to_pylist()
    after = [normalize_text(text, config) for text in before]
    changed = np.fromiter((a != b for a, b in zip(before, after, strict=True)), dtype=bool, count=len(before))
    return (pa.array(after, type=texts.type) if changed.any() else texts), changed
