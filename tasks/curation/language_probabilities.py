"""Probabilities of languages by the fastText model lid.176.ftz, over UTF-8 buffers.

A line's vector is the mean of rows: one per known word, one per surviving n-gram of each `<word>`, one for the end of
the line. A language's probability is the product of the decisions along its path in a binary tree of languages, so only
the wanted languages' paths are computed. Rows are summed as 32-bit floats in the order of the text, without fused
operations, as fastText does; from the decisions on, 64-bit floats make the result the same on every processor after
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa

from data_contracts.errors import ConfigError
from tasks.curation.fasttext_model import (
    BUCKETS,
    DIMENSIONS,
    LABEL_PREFIX,
    MAX_NGRAM,
    MIN_NGRAM,
    FastTextModel,
    read_model,
    shipped_model_path,
    tree_paths,
)
from tasks.curation.language_lines import Lines, model_lines

END_OF_LINE = b"</s>"
LOG_FLOOR = 1e-5
"""fastText adds this to each decision before it takes the logarithm."""

EMPTY = -1
HASH_START, HASH_FACTOR = np.uint32(2166136261), np.uint32(16777619)
SPACE, OPEN, CLOSE = 0x20, 0x3C, 0x3E
_PREFIX = np.frombuffer(LABEL_PREFIX, dtype=np.uint8)
_END = np.frombuffer(END_OF_LINE, dtype=np.uint8)


class Vocabulary(NamedTuple):
    """Words in an open hash table of row numbers.

    slots: (power of two,) int32 word or EMPTY; hashes: (words,) uint32; data, bounds: the words' bytes.
    """

    slots: np.ndarray
    hashes: np.ndarray
    data: np.ndarray
    bounds: np.ndarray


class Ngrams(NamedTuple):
    """Which of the buckets survived, as (BUCKETS / 64,) uint64 bits, and the row of the first one in each 64."""

    bits: np.ndarray
    first_rows: np.ndarray


class Classifier(NamedTuple):
    """The model as the kernel reads it; rows of n-grams are in the order of their buckets."""

    vocabulary: Vocabulary
    ngrams: Ngrams
    rows: np.ndarray
    weights: np.ndarray
    end_row: int


class RowSums(NamedTuple):
    """sums: (lines, DIMENSIONS) float32 of the rows of each line, added up in the order of the text; num_rows: (lines,)
    int32."""

    sums: np.ndarray
    num_rows: np.ndarray


def sum_rows(lines: Lines, classifier: Classifier) -> RowSums:
    """The rows of each line, the end of the line included; none of an empty one. Marks are written into the lines."""
    model = classifier.vocabulary, classifier.ngrams, classifier.rows, classifier.end_row
    return RowSums(*_sum_rows(*lines, *model))


def language_probabilities(
    texts: pa.Array,
    languages: Sequence[str],
    num_windows: int,
    window_characters: int,
    sum_rows: Callable[[Lines, Classifier], RowSums] = sum_rows,
) -> np.ndarray:
    """(documents, languages) float64 probability of each language; 0 for a text of white space alone.

    A probability can exceed 1 by some 1e-5, as fastText's do. The model sees a document through windows, as
    `model_lines` says. sum_rows: what stands for the function of that name. ConfigError for a language that the model
    does not know.
    """
    classifier, labels, counts = _shipped_classifier()
    unknown = [language for language in languages if language not in labels]
    if unknown:
        raise ConfigError(
            f"`{unknown[0]}`: not among the {len(labels)} languages of the model lid.176",
            hint=f"use one of {', '.join(sorted(labels))}",
        )
    paths = tree_paths(counts, [labels.index(language) for language in languages])
    lines = model_lines(texts, num_windows, window_characters)
    return _probabilities(*sum_rows(lines, classifier), classifier.weights, *paths)


@cache
def _shipped_classifier() -> tuple[Classifier, list[str], list[int]]:
    model = read_model(shipped_model_path())
    return _classifier(model), model.labels, model.label_counts


def _classifier(model: FastTextModel) -> Classifier:
    order = np.argsort(model.ngram_buckets)
    buckets = model.ngram_buckets[order].astype(np.int64)
    bits = np.zeros(BUCKETS // 64, dtype=np.uint64)
    np.bitwise_or.at(bits, buckets // 64, np.uint64(1) << (buckets % 64).astype(np.uint64))
    num_words = len(model.words)
    first_rows = num_words + np.searchsorted(buckets, np.arange(0, BUCKETS, 64)).astype(np.int64)
    rows = np.concatenate([model.rows[:num_words], model.rows[num_words:][order]])
    end_row = model.words.index(END_OF_LINE) if END_OF_LINE in model.words else EMPTY
    return Classifier(_vocabulary(model.words), Ngrams(bits, first_rows), rows, model.weights, end_row)


def _vocabulary(words: list[bytes]) -> Vocabulary:
    data = np.frombuffer(b"".join(words), dtype=np.uint8)
    bounds = np.zeros(len(words) + 1, dtype=np.int64)
    np.cumsum([len(word) for word in words], out=bounds[1:])
    slots = np.full(1 << (4 * len(words)).bit_length(), EMPTY, dtype=np.int32)
    vocabulary = Vocabulary(slots, np.empty(len(words), dtype=np.uint32), data, bounds)
    _fill(vocabulary)
    return vocabulary


@numba.njit(cache=True, nogil=True, inline="always")
def _hash(state, byte):
    """One step of 32-bit FNV-1a; fastText takes bytes as signed, so that those above 127 flip the upper bits too."""
    return np.uint32((state ^ np.uint32(np.int8(byte))) * HASH_FACTOR)


@numba.njit(cache=True, nogil=True)
def _hash_of(data, start, stop):
    state = HASH_START
    for index in range(start, stop):
        state = _hash(state, data[index])
    return state


@numba.njit(cache=True, nogil=True)
def _fill(vocabulary):
    mask = len(vocabulary.slots) - 1
    for word in range(len(vocabulary.hashes)):
        value = _hash_of(vocabulary.data, vocabulary.bounds[word], vocabulary.bounds[word + 1])
        vocabulary.hashes[word] = value
        slot = np.int64(value) & mask
        while vocabulary.slots[slot] != EMPTY:
            slot = (slot + 1) & mask
        vocabulary.slots[slot] = word


@numba.njit(cache=True, nogil=True)
def _same(data, start, stop, other, other_start, other_stop):
    size = stop - start
    same = 0
    while same < size and size == other_stop - other_start and data[start + same] == other[other_start + same]:
        same += 1
    return same == size == other_stop - other_start


@numba.njit(cache=True, nogil=True)
def _row_of_word(data, start, stop, vocabulary):
    value = _hash_of(data, start, stop)
    mask = len(vocabulary.slots) - 1
    slot = np.int64(value) & mask
    while vocabulary.slots[slot] != EMPTY:
        word = vocabulary.slots[slot]
        if vocabulary.hashes[word] == value and _same(
            data, start, stop, vocabulary.data, vocabulary.bounds[word], vocabulary.bounds[word + 1]
        ):
            return word
        slot = (slot + 1) & mask
    return EMPTY


@numba.njit(cache=True, nogil=True, inline="always")
def _num_bits(word):
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@numba.njit(cache=True, nogil=True)
def _add_ngrams(data, start, stop, ngrams, found, num_found):
    """Appends the rows of the n-grams of data[start:stop], by where they start, then by their length."""
    for first in range(start, stop):
        if (data[first] & 0xC0) == 0x80:
            continue
        state, position = HASH_START, first
        for length in range(1, MAX_NGRAM + 1):
            if position == stop:
                break
            state = _hash(state, data[position])
            position += 1
            while position < stop and (data[position] & 0xC0) == 0x80:
                state = _hash(state, data[position])
                position += 1
            if length >= MIN_NGRAM:
                bucket = np.int64(state % np.uint32(BUCKETS))
                bits, bit = ngrams.bits[bucket >> 6], np.uint64(bucket & 63)
                if (bits >> bit) & np.uint64(1):
                    below = bits & ((np.uint64(1) << bit) - np.uint64(1))
                    found[num_found] = ngrams.first_rows[bucket >> 6] + _num_bits(below)
                    num_found += 1
    return num_found


@numba.njit(cache=True, nogil=True)
def _find_rows(data, start, stop, vocabulary, ngrams, found):
    """Writes the rows of all words and n-grams of a line into `found`; returns how many.

    Around each word its marks are written into `data`, over the separators.
    """
    num_found = 0
    while start < stop:
        end = start
        while end < stop and data[end] != SPACE and data[end] != 0:
            end += 1
        if _same(data, start, end, _END, 0, len(_END)):
            break
        if end > start and not _same(data, start, min(end, start + len(_PREFIX)), _PREFIX, 0, len(_PREFIX)):
            row = _row_of_word(data, start, end, vocabulary)
            if row != EMPTY:
                found[num_found] = row
                num_found += 1
            data[start - 1], data[end] = OPEN, CLOSE
            num_found = _add_ngrams(data, start - 1, end + 1, ngrams, found, num_found)
        start = end + 1
    return num_found


@numba.njit(cache=True, nogil=True)
def _sum_rows(data, starts, stops, vocabulary, ngrams, rows, end_row):
    sums = np.zeros((len(starts), DIMENSIONS), dtype=np.float32)
    num_rows = np.zeros(len(starts), dtype=np.int32)
    longest = 0
    for document in range(len(starts)):
        longest = max(longest, stops[document] - starts[document])
    # A line has fewer n-grams of each length, marks included, than twice its bytes and one; and no more words.
    found = np.empty((MAX_NGRAM + 1) * (2 * longest + 2), dtype=np.int32)
    for document in range(len(starts)):
        if starts[document] == stops[document]:
            continue
        num_found = _find_rows(data, starts[document], stops[document], vocabulary, ngrams, found)
        if end_row != EMPTY:
            found[num_found] = end_row
            num_found += 1
        num_rows[document] = num_found
        for index in range(num_found):
            row = found[index]
            for dimension in range(DIMENSIONS):
                sums[document, dimension] += rows[row, dimension]
    return sums, num_rows


@numba.njit(cache=True, nogil=True)
def _probability(mean, weights, nodes, rights, length):
    probability = 1.0
    for step in range(length):
        product = np.float32(0)
        for dimension in range(DIMENSIONS):
            product += weights[nodes[step], dimension] * mean[dimension]
        right = 1.0 / (1.0 + math.exp(-np.float64(product)))
        probability *= (right if rights[step] else 1.0 - right) + LOG_FLOOR
    return probability


@numba.njit(cache=True, nogil=True)
def _probabilities(sums, num_rows, weights, nodes, rights, lengths):
    probabilities = np.zeros((len(num_rows), len(lengths)), dtype=np.float64)
    mean = np.zeros(DIMENSIONS, dtype=np.float32)
    for document in range(len(num_rows)):
        if num_rows[document] == 0:
            continue
        factor = np.float32(1.0 / num_rows[document])
        for dimension in range(DIMENSIONS):
            mean[dimension] = sums[document, dimension] * factor
        for language in range(len(lengths)):
            probabilities[document, language] = _probability(
                mean, weights, nodes[language], rights[language], lengths[language]
            )
    return probabilities
