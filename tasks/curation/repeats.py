"""How much of a document repeats what stood in it before: character n-grams, whole lines and paragraphs."""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa

from tasks.curation.characters import SPACE, character_classes, decode, text_buffers

# Any odd multiplier serves a rolling hash modulo 2^64; these two have well mixed bits (from splitmix64 and PCG).
BASE = np.uint64(6364136223846793005)
MIX = np.uint64(0xBF58476D1CE4E5B9)


def repeated_ngram_share(texts: pa.Array, ngram: int, window: int) -> np.ndarray:
    """(documents,) float64: of all n-grams of non-space characters, the share that occurred before in its window.

    ngram, window: in characters. n-grams are compared by 64-bit hashes. 0 for a text shorter than an n-gram.
    """
    data, bounds = text_buffers(texts)
    return _repeated_ngram_share(data, bounds, character_classes(), ngram, max(window, ngram))


def repeated_line_share(texts: pa.Array) -> np.ndarray:
    """(documents,) float64: of the bytes in lines that are not blank, the share in lines that occurred before."""
    return _repeated_line_share(*text_buffers(texts))


def repeated_paragraph_share(texts: pa.Array) -> np.ndarray:
    """(documents,) float64: of the non-space characters, the share in paragraphs that occurred before.

    A paragraph is a run of lines that are not blank; paragraphs are compared without white space, by 64-bit hashes.
    """
    data, bounds = text_buffers(texts)
    return _repeated_paragraph_share(data, bounds, character_classes())


def top_ngram_share(texts: pa.Array, ngram: int, window: int) -> np.ndarray:
    """(documents,) float64: of the non-space characters, the share that the most frequent n-gram of a window covers.

    ngram, window: in characters. Occurrences that overlap count once; an n-gram that occurs once covers nothing.
    """
    data, bounds = text_buffers(texts)
    return _top_ngram_share(data, bounds, character_classes(), ngram, max(window, ngram))


@numba.njit(cache=True, nogil=True, inline="always")
def _mixed(value):
    value = (value ^ (value >> np.uint64(31))) * MIX
    return value ^ (value >> np.uint64(29))


@numba.njit(cache=True, nogil=True)
def _add(table, stamps, stamp, value):
    """Adds a hash to the set that `stamp` marks in an open table; True if it was there."""
    mask = len(table) - 1
    slot = np.int64(_mixed(value) & np.uint64(mask))
    while stamps[slot] == stamp:
        if table[slot] == value:
            return True
        slot = (slot + 1) & mask
    table[slot] = value
    stamps[slot] = stamp
    return False


@numba.njit(cache=True, nogil=True)
def _table_size(entries):
    size = 64
    while size < 2 * entries:
        size *= 2
    return size


@numba.njit(cache=True, nogil=True)
def _repeated_ngram_share(data, bounds, classes, ngram, window):
    shares = np.zeros(len(bounds) - 1, dtype=np.float64)
    size = _table_size(window)
    table, stamps, stamp = np.zeros(size, np.uint64), np.zeros(size, np.int64), 0
    recent = np.zeros(ngram, np.uint64)
    last_power = np.uint64(1)
    for _ in range(ngram):
        last_power *= BASE
    for document in range(len(shares)):
        position, end = bounds[document], bounds[document + 1]
        count, total, repeated = 0, 0, 0
        rolling = np.uint64(0)
        while position < end:
            code, position = decode(data, position)
            if classes[code] & SPACE:
                continue
            if count % window == 0:
                stamp += 1
                count, rolling = 0, np.uint64(0)
                recent[:] = np.uint64(0)
            oldest = count % ngram
            rolling = rolling * BASE + np.uint64(code + 1) - recent[oldest] * last_power
            recent[oldest] = np.uint64(code + 1)
            count += 1
            if count >= ngram:
                total += 1
                repeated += _add(table, stamps, stamp, rolling)
        if total:
            shares[document] = repeated / total
    return shares


@numba.njit(cache=True, nogil=True)
def _with_room_for_lines(data, start, end, table, stamps):
    """The table, or an empty bigger one where the lines of data[start:end] would fill more than half of it."""
    num_lines = 1
    for position in range(start, end):
        num_lines += data[position] == 10
    if 2 * num_lines > len(table):
        size = _table_size(num_lines)
        return np.zeros(size, np.uint64), np.zeros(size, np.int64)
    return table, stamps


@numba.njit(cache=True, nogil=True)
def _repeated_line_share(data, bounds):
    shares = np.zeros(len(bounds) - 1, dtype=np.float64)
    table, stamps = np.zeros(64, np.uint64), np.zeros(64, np.int64)
    for document in range(len(shares)):
        start, end = bounds[document], bounds[document + 1]
        table, stamps = _with_room_for_lines(data, start, end, table, stamps)
        shares[document] = _line_share(data, start, end, table, stamps, document + 1)
    return shares


@numba.njit(cache=True, nogil=True)
def _line_share(data, start, end, table, stamps, stamp):
    total, repeated = 0, 0
    while start < end:
        stop = start
        while stop < end and data[stop] != 10:
            stop += 1
        first, last = start, stop
        while first < last and (data[first] == 32 or data[first] == 9):
            first += 1
        while last > first and (data[last - 1] == 32 or data[last - 1] == 9):
            last -= 1
        if last > first:
            value = np.uint64(last - first)
            for position in range(first, last):
                value = value * BASE + np.uint64(data[position]) + np.uint64(1)
            total += last - first
            if _add(table, stamps, stamp, value):
                repeated += last - first
        start = stop + 1
    return repeated / total if total else 0.0


@numba.njit(cache=True, nogil=True)
def _repeated_paragraph_share(data, bounds, classes):
    shares = np.zeros(len(bounds) - 1, dtype=np.float64)
    table, stamps = np.zeros(64, np.uint64), np.zeros(64, np.int64)
    for document in range(len(shares)):
        start, end = bounds[document], bounds[document + 1]
        table, stamps = _with_room_for_lines(data, start, end, table, stamps)
        shares[document] = _paragraph_share(data, start, end, classes, table, stamps, document + 1)
    return shares


@numba.njit(cache=True, nogil=True)
def _paragraph_share(data, position, end, classes, table, stamps, stamp):
    total, repeated = 0, 0
    count, value, line_is_blank = 0, np.uint64(0), True
    while position < end:
        code, position = decode(data, position)
        if (classes[code] & SPACE) == 0:
            value = value * BASE + np.uint64(code + 1)
            count += 1
            total += 1
            line_is_blank = False
        ends = position == end or (code == 10 and line_is_blank)
        if code == 10:
            line_is_blank = True
        if ends and count:
            if _add(table, stamps, stamp, value):
                repeated += count
            count, value = 0, np.uint64(0)
    return repeated / total if total else 0.0


@numba.njit(cache=True, nogil=True)
def _top_ngram_share(data, bounds, classes, ngram, window):
    shares = np.zeros(len(bounds) - 1, dtype=np.float64)
    codes = np.zeros(window, np.int64)
    table, stamp = np.zeros((_table_size(1), 4), np.int64), 0
    for document in range(len(shares)):
        position, end = bounds[document], bounds[document + 1]
        size = _table_size(min(window, end - position))
        if size > len(table):
            table = np.zeros((size, 4), np.int64)
        covered, total = 0, 0
        while position < end:
            count = 0
            while position < end and count < window:
                code, position = decode(data, position)
                if (classes[code] & SPACE) == 0:
                    codes[count] = code + 1
                    count += 1
            stamp += 1
            total += count
            covered += ngram * _top_count(codes[:count], ngram, table, stamp)
        if total:
            shares[document] = covered / total
    return shares


@numba.njit(cache=True, nogil=True)
def _top_count(codes, ngram, table, stamp):
    """Occurrences of the most frequent n-gram, none of which overlap; 0 if none occurs twice.

    A row of `table` holds the stamp that marks it as used, a hash, its occurrences, and where the next one may start.
    """
    mask = _table_size(len(codes)) - 1
    last_power, value, best = np.uint64(1), np.uint64(0), 1
    for _ in range(ngram):
        last_power *= BASE
    for index in range(len(codes)):
        value = value * BASE + np.uint64(codes[index])
        if index >= ngram:
            value -= np.uint64(codes[index - ngram]) * last_power
        start = index - ngram + 1
        if start < 0:
            continue
        key, slot = np.int64(value), np.int64(_mixed(value) & np.uint64(mask))
        while table[slot, 0] == stamp and table[slot, 1] != key:
            slot = (slot + 1) & mask
        if table[slot, 0] != stamp:
            table[slot, 0], table[slot, 1], table[slot, 2], table[slot, 3] = stamp, key, 1, start + ngram
        elif start >= table[slot, 3]:
            count = table[slot, 2] + 1
            table[slot, 2], table[slot, 3] = count, start + ngram
            best = max(best, count)
    return best if best > 1 else 0
