"""How much of a document repeats what stood in it before: character n-grams and whole lines."""

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
def _repeated_line_share(data, bounds):
    shares = np.zeros(len(bounds) - 1, dtype=np.float64)
    table, stamps = np.zeros(64, np.uint64), np.zeros(64, np.int64)
    for document in range(len(shares)):
        start, end = bounds[document], bounds[document + 1]
        num_lines = 1
        for position in range(start, end):
            num_lines += data[position] == 10
        if 2 * num_lines > len(table):
            size = _table_size(num_lines)
            table, stamps = np.zeros(size, np.uint64), np.zeros(size, np.int64)
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
