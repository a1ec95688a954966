"""The comparison form of a text, in which duplicates are sought: NFKC, lower case, without white space.

It is only compared, never written. As code: `"".join(unicodedata.normalize("NFKC", text).lower().split())`. Most
characters map to one character each, whatever stands around them; texts of such characters are folded by a kernel, all
others by that line of Python, with the same result.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa

from tasks.curation.characters import ASSIGNED_END, NUM_CODE_POINTS, VARIED, decode, text_buffers

DROPPED, COMPLEX = -1, -2
CONTEXT_DEPENDENT = "\u03a3"
"""Capital sigma: its lower case depends on whether a word ends there."""


class Folded(NamedTuple):
    """Texts in comparison form: (characters,) uint32 code points, (documents + 1,) int64 bounds."""

    codes: np.ndarray
    bounds: np.ndarray


def fold_text(text: str) -> str:
    """The comparison form of one text."""
    return "".join(unicodedata.normalize("NFKC", text).lower().split())


def fold(texts: pa.Array | pa.ChunkedArray) -> Folded:
    """The comparison forms of a text column."""
    data, starts = text_buffers(texts)
    # A character has at least one byte, so each document fits where its bytes stand.
    codes = np.empty(int(starts[-1] - starts[0]), dtype=np.uint32)
    lengths = np.empty(len(starts) - 1, dtype=np.int64)
    _fold(data, starts, folding_table(), codes, lengths)
    simple = lengths != COMPLEX
    slow = {
        index: np.frombuffer(fold_text(texts[index].as_py()).encode("utf-32-le"), dtype=np.uint32)
        for index in np.flatnonzero(~simple).tolist()
    }
    for index, folded in slow.items():
        lengths[index] = len(folded)
    bounds = np.zeros(len(starts), dtype=np.int64)
    np.cumsum(lengths, out=bounds[1:])
    packed = np.empty(int(bounds[-1]), dtype=np.uint32)
    _pack(codes, starts - starts[0], simple, bounds, packed)
    for index, folded in slow.items():
        packed[bounds[index] : bounds[index + 1]] = folded
    return Folded(packed, bounds)


@cache
def folding_table() -> np.ndarray:
    """(0x110000,) int32: what each code point folds to, DROPPED, or COMPLEX where its neighbours matter."""
    table = np.full(NUM_CODE_POINTS, COMPLEX, dtype=np.int32)
    seconds = composition_seconds()
    for code in range(ASSIGNED_END):
        table[code] = _folded_code(chr(code), seconds)
    return table


def _folded_code(character: str, seconds: frozenset[str]) -> int:
    if unicodedata.category(character) in ("Cn", "Cs") or character == CONTEXT_DEPENDENT:
        return COMPLEX
    whole = unicodedata.normalize("NFKC", character)
    lowered = whole.lower()
    if len(whole) != 1 or len(lowered) != 1 or whole == CONTEXT_DEPENDENT:
        return COMPLEX
    if any(unicodedata.combining(c) or c in seconds for c in (character, whole)):
        return COMPLEX
    return DROPPED if lowered.isspace() else ord(lowered)


@cache
def composition_seconds() -> frozenset[str]:
    """Characters that may melt into the one before them under NFC."""
    seconds = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    for code in VARIED:
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            seconds.add(chr(int(parts[1], 16)))
    return frozenset(seconds)


@numba.njit(cache=True, nogil=True)
def _fold(data, starts, table, codes, lengths):
    first = starts[0]
    for document in range(len(lengths)):
        position, end = starts[document], starts[document + 1]
        place = position - first
        begin = place
        while position < end:
            code, position = decode(data, position)
            folded = table[code]
            if folded >= 0:
                codes[place] = folded
                place += 1
            elif folded == COMPLEX:
                place = begin + COMPLEX
                break
        lengths[document] = place - begin


@numba.njit(cache=True, nogil=True)
def _pack(codes, places, simple, bounds, packed):
    for document in range(len(simple)):
        if simple[document]:
            start, stop = bounds[document], bounds[document + 1]
            packed[start:stop] = codes[places[document] : places[document] + stop - start]
