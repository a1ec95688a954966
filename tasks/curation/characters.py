"""UTF-8 text columns as numpy buffers, classes of characters, and how much of a document falls into one."""

from __future__ import annotations

import unicodedata
from functools import cache

import numba
import numpy as np
import pyarrow as pa

SPACE, HIRAGANA, SYMBOL, KATAKANA, KANJI, LATIN = 1, 2, 4, 8, 16, 32
NUM_CODE_POINTS = 0x110000
ASSIGNED_END = 0x40000
"""No character of a script is beyond plane 3; plane 14 holds tags and selectors, planes 15 and 16 private use."""

VARIED = (*range(0x3400), *range(0x4DC0, 0x4E00), *range(0xA000, 0x20000), *range(0x2F800, 0x30000))
"""All code points but the ideographs that have neither case nor decomposition, and what is unassigned among them."""

EXTRA_SYMBOLS = "#*@\\※†‡•\u200d\ufe0e\ufe0f\u20e3"
"""Marks that Unicode calls punctuation or formatting, used as symbols or inside emoji sequences."""

PROSE_SYMBOLS = "\uff5e\u309b\u309c"
"""Characters of category S that Japanese prose uses as letters and dashes: full-width tilde, spaced voicing marks."""

KATAKANA_RANGES = "30A1-30FA 30FC-30FF 31F0-31FF FF66-FF9F 1B000 1B120-1B122 1B155 1B164-1B167"
"""Letters, the long vowel mark, iteration marks, small letters for Ainu, half-width forms and their voicing marks."""

KANJI_RANGES = "3005-3007 303B 3400-4DBF 4E00-9FFF F900-FAFF 20000-3FFFD"
"""Iteration marks, closing mark and zero, unified ideographs, compatibility ideographs, the ideographic planes."""

LATIN_RANGES = (
    "41-5A 61-7A C0-D6 D8-F6 F8-2AF 1E00-1EFF 2C60-2C7F A722-A787 A78B-A7FF AB30-AB5A FB00-FB06 FF21-FF3A FF41-FF5A"
)
"""Letters with and without diacritics, phonetic letters, ligatures, full-width forms; no digits."""


def text_buffers(texts: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The UTF-8 bytes of a text column, (bytes,) uint8, and (documents + 1,) int64 bounds of each document in them."""
    array = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    width = np.int64 if pa.types.is_large_string(array.type) else np.int32
    _, bounds, data = array.buffers()
    if not len(array):
        return np.zeros(1, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(bounds, dtype=width)[array.offset : array.offset + len(array) + 1]
    content = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    return content, np.asarray(offsets, dtype=np.int64)


@cache
def character_classes() -> np.ndarray:
    """(0x110000,) uint8: the classes of each code point as bits."""
    table = np.zeros(NUM_CODE_POINTS, dtype=np.uint8)
    for code in range(ASSIGNED_END):
        character = chr(code)
        category = unicodedata.category(character)
        if character.isspace():
            table[code] = SPACE
        elif category[0] == "S" or category in ("Co", "Cn"):
            table[code] = SYMBOL
    table[ASSIGNED_END:] = SYMBOL
    table[[ord(c) for c in EXTRA_SYMBOLS]] = SYMBOL
    table[[ord(c) for c in PROSE_SYMBOLS]] = 0
    table[0x3040:0x30A0] = HIRAGANA
    mark(table, KATAKANA_RANGES, KATAKANA)
    mark(table, KANJI_RANGES, KANJI)
    mark(table, LATIN_RANGES, LATIN)
    return table


def mark(table: np.ndarray, ranges: str, bit: int) -> None:
    """Sets a bit at the code points of `ranges`: hexadecimal, `FIRST-LAST` or `ONE`, with spaces in between."""
    for piece in ranges.split():
        first, _, last = piece.partition("-")
        table[int(first, 16) : int(last or first, 16) + 1] |= bit


@numba.njit(cache=True, nogil=True, inline="always")
def decode(data, position):
    """Code point at a byte position of valid UTF-8, and the position behind it."""
    lead = np.int64(data[position])
    if lead < 0x80:
        return lead, position + 1
    second = np.int64(data[position + 1]) & 0x3F
    if lead < 0xE0:
        return ((lead & 0x1F) << 6) | second, position + 2
    third = np.int64(data[position + 2]) & 0x3F
    if lead < 0xF0:
        return ((lead & 0x0F) << 12) | (second << 6) | third, position + 3
    fourth = np.int64(data[position + 3]) & 0x3F
    return ((lead & 0x07) << 18) | (second << 12) | (third << 6) | fourth, position + 4


def share_of(texts: pa.Array, wanted: int) -> np.ndarray:
    """(documents,) float64 share of characters of a class among those that are not white space; 0 for an empty text."""
    data, bounds = text_buffers(texts)
    return _share_of(data, bounds, character_classes(), np.uint8(wanted))


@numba.njit(cache=True, nogil=True)
def _share_of(data, bounds, classes, wanted):
    shares = np.zeros(len(bounds) - 1, dtype=np.float64)
    for document in range(len(shares)):
        position, end = bounds[document], bounds[document + 1]
        hits, total = 0, 0
        while position < end:
            code, position = decode(data, position)
            kind = classes[code]
            total += (kind & SPACE) == 0
            hits += (kind & wanted) != 0
        if total:
            shares[document] = hits / total
    return shares
