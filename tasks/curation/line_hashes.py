"""The lines of many texts as hashes, and in how many documents of a corpus each of them occurs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa

from tasks.curation.characters import text_buffers
from tasks.curation.repeats import MIX

FREQUENCIES = pa.schema([pa.field("hash", pa.uint64()), pa.field("num_documents", pa.uint32())])
"""Rows ascend by `hash`, each of which occurs once."""

HASHES_PER_MERGE = 1 << 20
"""How many rows are sorted at a time when tables are put together: bounds the memory beside the tables themselves."""

SEED = np.uint64(0x9E3779B97F4A7C15)


class Lines(NamedTuple):
    """Lines of texts, in order. A line is what `text.split("\\n")` gives, without spaces, tabs and U+3000 around it.

    hashes: (lines,) uint64, 0 for a line with fewer characters than were asked for; num_characters: (lines,) int64;
    bounds: (documents + 1,) int64 bounds of each document's lines.
    """

    hashes: np.ndarray
    num_characters: np.ndarray
    bounds: np.ndarray


def lines_of(texts: pa.Array, min_characters: int) -> Lines:
    """All lines of all texts; those of fewer than `min_characters`, and empty ones, without a hash."""
    data, starts = text_buffers(texts)
    bounds = np.zeros(len(starts), dtype=np.int64)
    np.cumsum(_num_lines(data, starts), out=bounds[1:])
    return Lines(*_lines(data, starts, bounds, max(min_characters, 1)), bounds)


def line_frequencies(texts: pa.Array, min_characters: int) -> pa.Table:
    """FREQUENCIES of the lines of these texts."""
    lines = lines_of(texts, min_characters)
    hashes, counts = np.unique(_distinct(lines.hashes.copy(), lines.bounds), return_counts=True)
    return _table(hashes, counts.astype(np.uint32))


def merged(parts: Iterable[pa.Table]) -> pa.Table:
    """One FREQUENCIES table from several, with the numbers of equal hashes added up."""
    columns = [
        (part["hash"].combine_chunks().to_numpy(), part["num_documents"].combine_chunks().to_numpy())
        for part in parts
        if part.num_rows
    ]
    if len(columns) < 2:
        return _table(*columns[0]) if columns else FREQUENCIES.empty_table()
    num_rows = sum(len(hashes) for hashes, _ in columns)
    num_ranges = 1 + num_rows // HASHES_PER_MERGE
    # Hashes are spread evenly, so equal ranges of values hold about as many rows.
    borders = [np.uint64(number * (1 << 64) // num_ranges) for number in range(1, num_ranges)]
    cuts = [[0, *np.searchsorted(hashes, borders), len(hashes)] for hashes, _ in columns]
    # As long as if no hash occurred twice; pages that are never written to take no memory.
    all_hashes, all_counts, stop = np.empty(num_rows, np.uint64), np.empty(num_rows, np.uint32), 0
    for number in range(num_ranges):
        slices = [slice(cut[number], cut[number + 1]) for cut in cuts]
        hashes = np.concatenate([h[piece] for (h, _), piece in zip(columns, slices, strict=True)])
        counts = np.concatenate([c[piece] for (_, c), piece in zip(columns, slices, strict=True)])
        hashes, counts = _summed(hashes, counts)
        start, stop = stop, stop + len(hashes)
        all_hashes[start:stop], all_counts[start:stop] = hashes, counts
    return _table(all_hashes[:stop], all_counts[:stop])


def found_in(lines: Lines, frequencies: pa.Table, min_documents: int) -> np.ndarray:
    """(lines,) bool: whether a line has a hash that the table counts in at least `min_documents` documents."""
    if not frequencies.num_rows:
        return np.zeros(len(lines.hashes), dtype=bool)
    hashes = frequencies["hash"].combine_chunks().to_numpy()
    counts = frequencies["num_documents"].combine_chunks().to_numpy()
    places = np.minimum(np.searchsorted(hashes, lines.hashes), len(hashes) - 1)
    return (lines.hashes != 0) & (hashes[places] == lines.hashes) & (counts[places] >= min_documents)


def _table(hashes: np.ndarray, counts: np.ndarray) -> pa.Table:
    return pa.table([hashes, counts], schema=FREQUENCIES)


def _summed(hashes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct hashes in order, and the sums of their counts."""
    if not len(hashes):
        return hashes, counts
    order = np.argsort(hashes, kind="stable")
    hashes, counts = hashes[order], counts[order]
    first = np.flatnonzero(np.concatenate(([True], hashes[1:] != hashes[:-1])))
    return hashes[first], np.add.reduceat(counts, first)


@numba.njit(cache=True, nogil=True)
def _num_lines(data, starts):
    counts = np.ones(len(starts) - 1, np.int64)
    for document in range(len(counts)):
        for position in range(starts[document], starts[document + 1]):
            counts[document] += data[position] == 10
    return counts


@numba.njit(cache=True, nogil=True)
def _lines(data, starts, bounds, min_characters):
    hashes, sizes = np.zeros(bounds[-1], np.uint64), np.zeros(bounds[-1], np.int64)
    for document in range(len(starts) - 1):
        start, end = starts[document], starts[document + 1]
        for line in range(bounds[document], bounds[document + 1]):
            stop = start
            while stop < end and data[stop] != 10:
                stop += 1
            first, last = _stripped(data, start, stop)
            characters = 0
            for position in range(first, last):
                characters += (data[position] & 0xC0) != 0x80
            sizes[line] = characters
            if characters >= min_characters:
                hashes[line] = _hash(data, first, last)
            start = stop + 1
    return hashes, sizes


@numba.njit(cache=True, nogil=True, inline="always")
def _ideographic_space(data, position):
    return data[position] == 0xE3 and data[position + 1] == 0x80 and data[position + 2] == 0x80


@numba.njit(cache=True, nogil=True)
def _stripped(data, first, last):
    """The bounds of a line without spaces, tabs and U+3000 around it."""
    while first < last:
        if data[first] == 32 or data[first] == 9:
            first += 1
        elif last - first >= 3 and _ideographic_space(data, first):
            first += 3
        else:
            break
    while last > first:
        if data[last - 1] == 32 or data[last - 1] == 9:
            last -= 1
        elif last - first >= 3 and _ideographic_space(data, last - 3):
            last -= 3
        else:
            break
    return first, last


@numba.njit(cache=True, nogil=True)
def _hash(data, first, last):
    """Hash of the bytes, eight at a time; never 0.

    Not a polynomial: modulo 2^64 long lines are known that any polynomial takes for equal.
    """
    value = SEED ^ np.uint64(last - first)
    while first < last:
        word = np.uint64(0)
        for position in range(first, min(first + 8, last)):
            word = (word << np.uint64(8)) | np.uint64(data[position])
        value = (value ^ word) * MIX
        value ^= value >> np.uint64(29)
        value *= SEED
        value ^= value >> np.uint64(32)
        first += 8
    return value if value else np.uint64(1)


@numba.njit(cache=True, nogil=True)
def _distinct(hashes, bounds):
    """The distinct hashes of each document, one document after the other, without zeros; `hashes` is used up."""
    place = 0
    for document in range(len(bounds) - 1):
        own = np.sort(hashes[bounds[document] : bounds[document + 1]])
        last = np.uint64(0)
        for value in own:
            if value != last:
                hashes[place] = value
                place += 1
                last = value
    return hashes[:place]
