"""What the lines of a document look like: how they end, and whether they are items of lists or rows of tables."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa

from tasks.curation.characters import NUM_CODE_POINTS, SPACE, character_classes, decode, text_buffers

ENDS_SENTENCE, ELLIPSIS, DOT = 1, 2, 4
BULLET, MARK, DIGIT, OPENS_NUMBER, CLOSES_NUMBER, SEPARATOR = 1, 2, 4, 8, 16, 32

SENTENCE_ENDS = "。｡．.！!？?‼⁇⁈⁉"
CLOSERS = "」』）)】〉》〕］]｝}｣”’\"'"
"""Brackets and quotation marks that close a sentence or stand behind one."""

ELLIPSES = "…‥⋯"
DOTS = ".．。｡・･"
"""Three of one kind are an ellipsis."""

BULLETS = "・･•‣◦●○◎■□◆◇▪▫▲△▼▽▶►★☆➤" + "".join(map(chr, [*range(0x2460, 0x249C), *range(0x2776, 0x2794)]))
"""Begin an item wherever they begin a line; the last are numbers in circles and brackets, and with full stops."""

MARKS = "-*+–—－＊"
"""Begin an item if white space follows."""

DIGITS = "0123456789０１２３４５６７８９"
NUMBER_OPENERS, NUMBER_CLOSERS = "(（[［", ".．)）]］、:："
SEPARATORS = "|｜"
MAX_NUMBER_DIGITS = 3


class LineEnds(NamedTuple):
    """(documents,) int64 each: lines that are not blank, and how many of them end with a sentence end, an ellipsis."""

    num_lines: np.ndarray
    num_sentence_ends: np.ndarray
    num_ellipses: np.ndarray


def line_ends(texts: pa.Array) -> LineEnds:
    """How the lines that are not blank end; white space is looked through.

    An ellipsis is one of `ELLIPSES` or three equal `DOTS`; a sentence end is one of `SENTENCE_ENDS` or `CLOSERS` that
    does not end an ellipsis.
    """
    data, bounds = text_buffers(texts)
    counts = _line_ends(data, bounds, character_classes(), end_classes())
    return LineEnds(counts[0], counts[1], counts[2])


def list_line_share(texts: pa.Array) -> np.ndarray:
    """(documents,) float64: of the lines that are not blank, the share that look like list items or table rows."""
    data, bounds = text_buffers(texts)
    return _list_line_share(data, bounds, character_classes(), item_classes())


@cache
def end_classes() -> np.ndarray:
    return _table((ENDS_SENTENCE, SENTENCE_ENDS + CLOSERS), (ELLIPSIS, ELLIPSES), (DOT, DOTS))


@cache
def item_classes() -> np.ndarray:
    return _table(
        (BULLET, BULLETS),
        (MARK, MARKS),
        (DIGIT, DIGITS),
        (OPENS_NUMBER, NUMBER_OPENERS),
        (CLOSES_NUMBER, NUMBER_CLOSERS),
        (SEPARATOR, SEPARATORS),
    )


def _table(*members: tuple[int, str]) -> np.ndarray:
    """(0x110000,) uint8: the bits of each code point."""
    table = np.zeros(NUM_CODE_POINTS, dtype=np.uint8)
    for bit, characters in members:
        table[[ord(character) for character in characters]] |= bit
    return table


@numba.njit(cache=True, nogil=True)
def _line_ends(data, bounds, classes, ends):
    counts = np.zeros((3, len(bounds) - 1), dtype=np.int64)
    for document in range(counts.shape[1]):
        position, end = bounds[document], bounds[document + 1]
        last, run = np.int64(-1), 0
        while position < end:
            code, position = decode(data, position)
            if (classes[code] & SPACE) == 0:
                run = run + 1 if code == last else 1
                last = code
            if last >= 0 and (code == 10 or position == end):
                kind = ends[last]
                ellipsis = (kind & ELLIPSIS) != 0 or ((kind & DOT) != 0 and run >= 3)
                counts[0, document] += 1
                counts[1, document] += (kind & ENDS_SENTENCE) != 0 and not ellipsis
                counts[2, document] += ellipsis
                last, run = np.int64(-1), 0
    return counts


@numba.njit(cache=True, nogil=True)
def _list_line_share(data, bounds, classes, kinds):
    shares = np.zeros(len(bounds) - 1, dtype=np.float64)
    for document in range(len(shares)):
        position, end = bounds[document], bounds[document + 1]
        num_lines, num_items = 0, 0
        while position < end:
            stop = position
            while stop < end and data[stop] != 10:
                stop += 1
            first = _first_visible(data, position, stop, classes)
            if first < stop:
                num_lines += 1
                num_items += _is_item(data, first, stop, classes, kinds) or _is_row(data, first, stop, classes, kinds)
            position = stop + 1
        if num_lines:
            shares[document] = num_items / num_lines
    return shares


@numba.njit(cache=True, nogil=True)
def _first_visible(data, position, stop, classes):
    while position < stop:
        code, behind = decode(data, position)
        if (classes[code] & SPACE) == 0:
            return position
        position = behind
    return stop


@numba.njit(cache=True, nogil=True)
def _is_item(data, position, stop, classes, kinds):
    """Whether the line from its first visible character on begins with a bullet, a mark and a space, or a number."""
    code, position = decode(data, position)
    if kinds[code] & BULLET:
        return True
    if kinds[code] & MARK:
        return position < stop and (classes[decode(data, position)[0]] & SPACE) != 0
    if kinds[code] & OPENS_NUMBER:
        if position == stop:
            return False
        code, position = decode(data, position)
    num_digits = 0
    while kinds[code] & DIGIT and num_digits <= MAX_NUMBER_DIGITS and position < stop:
        num_digits += 1
        code, position = decode(data, position)
    if not 1 <= num_digits <= MAX_NUMBER_DIGITS or (kinds[code] & CLOSES_NUMBER) == 0:
        return False
    return position == stop or (kinds[decode(data, position)[0]] & DIGIT) == 0


@numba.njit(cache=True, nogil=True)
def _is_row(data, position, stop, classes, kinds):
    """Whether the line from its first visible character on has two separators apart, or a tab between characters."""
    num_separators, tab, before = 0, False, False
    while position < stop:
        code, position = decode(data, position)
        separator = (kinds[code] & SEPARATOR) != 0
        num_separators += separator and not before
        before = separator
        if tab and (classes[code] & SPACE) == 0:
            return True
        tab = tab or code == 9
    return num_separators >= 2
