"""Hashes of character n-grams, MinHash band keys, and the exact Jaccard similarity of n-gram sets."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from tasks.curation.config import FuzzyConfig
from tasks.curation.folding import Folded

BASE = np.uint64(0x9E3779B97F4A7C15)
MIX_A = np.uint64(0xBF58476D1CE4E5B9)
MIX_B = np.uint64(0x94D049BB133111EB)
"""Constants of splitmix64 (Steele, Lea, Flood 2014)."""


class GramSets(NamedTuple):
    """n-gram sets of documents: (n-grams,) uint64 hashes, sorted and unique per document, (documents + 1,) bounds."""

    values: np.ndarray
    bounds: np.ndarray


def hash_parameters(config: FuzzyConfig) -> tuple[np.ndarray, np.ndarray]:
    """(permutations,) uint32 multipliers, odd, and (permutations,) uint32 offsets."""
    generator = np.random.Generator(np.random.PCG64(config.seed))
    draws = generator.integers(0, 1 << 32, size=(2, config.permutations), dtype=np.uint32)
    return draws[0] | np.uint32(1), draws[1]


def band_keys(folded: Folded, config: FuzzyConfig) -> np.ndarray:
    """(documents, bands) uint64: equal in a band for two documents whose MinHashes agree in all its rows."""
    multipliers, offsets = hash_parameters(config)
    keys = np.empty((len(folded.bounds) - 1, config.bands), dtype=np.uint64)
    _band_keys(*folded, config.ngram_characters, multipliers, offsets, config.rows, keys)
    return keys


def gram_sets(folded: Folded, ngram: int) -> GramSets:
    """The set of n-grams of each document, as 64-bit hashes.

    A text shorter than an n-gram is one gram. Two n-grams of a pair of documents with m n-grams in all share a hash
    with a probability of about m^2 / 2^65 (3e-14 for m = 1,000), the only way in which a similarity can be inexact.
    """
    values = np.empty(int(_num_grams(folded.bounds, ngram).sum()), dtype=np.uint64)
    bounds = np.zeros(len(folded.bounds), dtype=np.int64)
    used = _gram_sets(*folded, ngram, values, bounds)
    return GramSets(values[:used], bounds)


def _num_grams(bounds: np.ndarray, ngram: int) -> np.ndarray:
    return np.maximum(np.diff(bounds) - ngram + 1, 1)


@numba.njit(cache=True, nogil=True, inline="always")
def mixed(value):
    value = (value ^ (value >> np.uint64(30))) * MIX_A
    value = (value ^ (value >> np.uint64(27))) * MIX_B
    return value ^ (value >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def _gram_hashes(codes, start, stop, ngram, grams):
    """Hash of each n-gram of codes[start:stop] into `grams`; returns how many there are."""
    length = min(ngram, stop - start)
    count = max(stop - start - ngram + 1, 1)
    # The length is part of a short gram: "ab" and "ab" followed by U+0000 differ.
    for index in range(count):
        value = np.uint64(length)
        for position in range(start + index, start + index + length):
            value = value * BASE + np.uint64(codes[position])
        grams[index] = mixed(value)
    return count


@numba.njit(cache=True, nogil=True)
def _band_keys(codes, bounds, ngram, multipliers, offsets, rows, keys):
    longest = 1
    for document in range(len(bounds) - 1):
        longest = max(longest, bounds[document + 1] - bounds[document])
    grams = np.empty(longest + 8, dtype=np.uint64)
    minima = np.empty(len(multipliers), dtype=np.uint32)
    for document in range(len(bounds) - 1):
        count = _gram_hashes(codes, bounds[document], bounds[document + 1], ngram, grams)
        minima[:] = np.uint32(0xFFFFFFFF)
        # Eight n-grams at once, the last one repeated: each multiplier and minimum is loaded once for all of them.
        grams[count : count + 8] = grams[count - 1]
        for index in range(0, count, 8):
            _lower_minima(grams[index : index + 8], multipliers, offsets, minima)
        for band in range(keys.shape[1]):
            key = np.uint64(band)
            for row in range(band * rows, band * rows + rows):
                key = mixed(key * BASE + np.uint64(minima[row]))
            keys[document, band] = key


@numba.njit(cache=True, nogil=True, inline="always")
def _lower_minima(grams, multipliers, offsets, minima):
    a, b, c, d = _upper(grams[0]), _upper(grams[1]), _upper(grams[2]), _upper(grams[3])
    e, f, g, h = _upper(grams[4]), _upper(grams[5]), _upper(grams[6]), _upper(grams[7])
    for p in range(len(minima)):
        m, o = multipliers[p], offsets[p]
        first = min(min(np.uint32(m * a + o), np.uint32(m * b + o)), min(np.uint32(m * c + o), np.uint32(m * d + o)))
        second = min(min(np.uint32(m * e + o), np.uint32(m * f + o)), min(np.uint32(m * g + o), np.uint32(m * h + o)))
        minima[p] = min(minima[p], min(first, second))


@numba.njit(cache=True, nogil=True, inline="always")
def _upper(gram):
    return np.uint32(gram >> np.uint64(32))


@numba.njit(cache=True, nogil=True)
def _gram_sets(codes, bounds, ngram, values, set_bounds):
    used = 0
    for document in range(len(bounds) - 1):
        count = _gram_hashes(codes, bounds[document], bounds[document + 1], ngram, values[used:])
        grams = values[used : used + count]
        grams.sort()
        last = 0
        for index in range(1, count):
            if grams[index] != grams[last]:
                last += 1
                grams[last] = grams[index]
        used += last + 1
        set_bounds[document + 1] = used
    return used


@numba.njit(cache=True, nogil=True)
def jaccard(values, bounds, first, second, threshold):
    """Jaccard similarity of two sets; -1.0 when their sizes alone keep it below `threshold`."""
    i, i_end = bounds[first], bounds[first + 1]
    j, j_end = bounds[second], bounds[second + 1]
    size_i, size_j = i_end - i, j_end - j
    if min(size_i, size_j) / max(size_i, size_j) < threshold:
        return -1.0
    common = 0
    while i < i_end and j < j_end:
        a, b = values[i], values[j]
        common += a == b
        i += a <= b
        j += b <= a
    return common / (size_i + size_j - common)


@numba.njit(cache=True, nogil=True)
def jaccards(values, bounds, pairs, threshold):
    """(pairs,) float64 similarity of each pair of sets, as `jaccard` gives it."""
    result = np.empty(len(pairs), dtype=np.float64)
    for index in range(len(pairs)):
        result[index] = jaccard(values, bounds, pairs[index, 0], pairs[index, 1], threshold)
    return result
