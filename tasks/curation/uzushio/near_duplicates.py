"""Near-duplicate paragraphs: SimHash signatures, sorted under a few rotations, decided by the texts themselves.

As in Uzushio, but for its hyperplanes, which are our own: each n-gram adds 1 to each of 128 sums, or takes 1 away, by
the bits of two hashes, where Uzushio adds normal numbers. Where Uzushio compares within a buffer of some MiB that does
not grow beyond four values of the first byte, a fixed number of predecessors is compared here, in an order that depends
on the paragraphs alone; so equal corpora give equal results however they are sharded.
"""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa

from tasks.curation.characters import decode, text_buffers
from tasks.curation.uzushio.randomness import mix

NUM_BITS = 128
SEEDS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03))
"""Seeds of the two halves of the hyperplanes."""

GRAM_SEED = np.uint64(15213125612)
LONG_TEXT_UNITS = 30
SHORT_TEXT_UNITS = 16
MAX_LENGTH_DIFFERENCE = 50

LONG_WORDS, UNIGRAM_WORDS, BIGRAM_WORDS = 128, 4, 8
SET_WORDS = LONG_WORDS + UNIGRAM_WORDS + BIGRAM_WORDS
BLOCK_WORDS = 8
NUM_BLOCKS = LONG_WORDS // BLOCK_WORDS
HEAD_UNITS = 64
"""Texts compared by edits have at most 2 x 30 + 1 units."""


def signatures(texts: pa.Array) -> np.ndarray:
    """(texts, 2) uint64: bit i tells on which side of hyperplane i the text's 2-, 3- and 4-grams lie in sum."""
    result = np.empty((len(texts), 2), dtype=np.uint64)
    _signatures(*text_buffers(texts), result)
    return result


def representatives(
    texts: pa.Array, hashes: np.ndarray, prints: np.ndarray, *, rotations: int, window: int, matching_bits: int
) -> np.ndarray:
    """(texts,) int64: the smallest hash of each text's group of near-duplicates, its own if it is alone.

    texts: all different; hashes: (texts,) int64, all different; prints: their signatures; rotations: passes under other
    rotations of the signatures; window: predecessors that a text is compared with in a pass; matching_bits: of 128,
    fewest that agree in a pair. Groups are closed under "matches", chains included.
    """
    parents = np.arange(len(hashes))
    data, bounds = text_buffers(texts)
    lengths = np.empty(len(hashes), dtype=np.int64)
    _unit_lengths(data, bounds, lengths)
    for rotation in _rotations(rotations):
        rotated = _rotated(prints, rotation)
        order = np.lexsort((hashes, rotated[:, 1], rotated[:, 0]))
        # Neighbours lie side by side: they are read a thousand times as often as others.
        _join_neighbours(data, bounds, lengths[order], prints[order], order, window, matching_bits, parents)
    labels = _roots(parents)
    smallest = np.full(len(hashes), np.iinfo(np.int64).max)
    np.minimum.at(smallest, labels, hashes)
    return smallest[labels]


def _rotations(number: int) -> list[int]:
    """That many different rotations, spread over the 128 bits by chance but always the same."""
    return np.sort(np.random.Generator(np.random.PCG64(1)).permutation(NUM_BITS)[:number]).tolist()


def _rotated(prints: np.ndarray, bits: int) -> np.ndarray:
    """128-bit signatures rotated to the right; the first word is the high one."""
    high, low = prints[:, 0], prints[:, 1]
    if bits >= 64:
        high, low, bits = low, high, bits - 64
    if not bits:
        return np.stack((high, low), axis=1)
    right, left = np.uint64(bits), np.uint64(64 - bits)
    return np.stack(((high >> right) | (low << left), (low >> right) | (high << left)), axis=1)


@numba.njit(cache=True, nogil=True)
def _units(data, position, end, units):
    """UTF-16 code units of a text into `units`; returns how many there are."""
    length = 0
    while position < end:
        code, position = decode(data, position)
        if code < 0x10000:
            units[length] = code
            length += 1
        else:
            units[length] = 0xD800 + ((code - 0x10000) >> 10)
            units[length + 1] = 0xDC00 + ((code - 0x10000) & 0x3FF)
            length += 2
    return length


@numba.njit(cache=True, nogil=True)
def _unit_lengths(data, bounds, lengths):
    for text in range(len(lengths)):
        position, end, length = bounds[text], bounds[text + 1], 0
        while position < end:
            code, position = decode(data, position)
            length += 1 if code < 0x10000 else 2
        lengths[text] = length


@numba.njit(cache=True, nogil=True, inline="always")
def _scattered(value, seed):
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    value = (value ^ seed) + seed
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def _signatures(data, bounds, result):
    longest = 1
    for text in range(len(result)):
        longest = max(longest, bounds[text + 1] - bounds[text])
    units = np.empty(longest, dtype=np.uint16)
    ones = np.empty(NUM_BITS, dtype=np.int32)
    for text in range(len(result)):
        length = _units(data, bounds[text], bounds[text + 1], units)
        ones[:] = 0
        grams = 0
        for start in range(length - 1):
            if units[start] == 10:
                continue
            state = mix(GRAM_SEED, np.uint64(units[start]))
            for size in range(2, min(4, length - start) + 1):
                unit = units[start + size - 1]
                if unit == 10:
                    break
                state = mix(state, np.uint64(unit))
                gram = mix(state, np.uint64(size - 1))
                grams += 1
                _add_signs(ones, gram)
        result[text, 0], result[text, 1] = _majority(ones[:64], grams), _majority(ones[64:], grams)


@numba.njit(cache=True, nogil=True)
def _add_signs(ones, gram):
    first, second = _scattered(gram, SEEDS[0]), _scattered(gram, SEEDS[1])
    for bit in range(64):
        ones[bit] += np.int32((first >> np.uint64(bit)) & np.uint64(1))
        ones[64 + bit] += np.int32((second >> np.uint64(bit)) & np.uint64(1))


@numba.njit(cache=True, nogil=True)
def _majority(ones, grams):
    """Bit i is set where more than half of the n-grams lie on the positive side of hyperplane i."""
    word = np.uint64(0)
    for bit in range(64):
        if 2 * ones[bit] > grams:
            word |= np.uint64(1) << np.uint64(bit)
    return word


@numba.njit(cache=True, nogil=True, inline="always")
def _num_ones(word):
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@numba.njit(cache=True, nogil=True)
def _root(parents, row):
    while parents[row] != row:
        parents[row] = parents[parents[row]]
        row = parents[row]
    return row


@numba.njit(cache=True, nogil=True)
def _roots(parents):
    labels = np.empty_like(parents)
    for row in range(len(parents)):
        labels[row] = _root(parents, row)
    return labels


@numba.njit(cache=True, nogil=True)
def _join_neighbours(data, bounds, lengths, prints, order, window, matching_bits, parents):
    """Joins each text with those of its `window` predecessors in `order` that match it.

    lengths, prints: in that order; data, bounds, parents: as the texts come.
    """
    units = np.empty(max(1, lengths.max()), dtype=np.uint16)
    filled = np.full(window + 1, -1, dtype=np.int64)
    sets = np.zeros((window + 1, SET_WORDS), dtype=np.uint64)
    rest = np.zeros((window + 1, NUM_BLOCKS + 1), dtype=np.int64)
    heads = np.zeros((window + 1, HEAD_UNITS), dtype=np.uint16)
    for place in range(len(order)):
        length = lengths[place]
        for other in range(max(0, place - window), place):
            differing = _num_ones(prints[place, 0] ^ prints[other, 0]) + _num_ones(prints[place, 1] ^ prints[other, 1])
            if NUM_BITS - differing < matching_bits or not _may_match(length, lengths[other]):
                continue
            a, b = _root(parents, order[place]), _root(parents, order[other])
            if a == b:
                continue
            i, j = place % (window + 1), other % (window + 1)
            # Most long texts have no neighbour of their length: their sets are made when they are asked for.
            for slot, at in ((i, place), (j, other)):
                if filled[slot] != at:
                    filled[slot] = at
                    size = _units(data, bounds[order[at]], bounds[order[at] + 1], units)
                    _prepare(units, size, sets[slot], rest[slot], heads[slot])
            if (length + lengths[other]) // 2 > LONG_TEXT_UNITS:
                near = _long_overlap(sets[i], sets[j], rest[i], rest[j])
            else:
                near = _short_overlap(sets[i], sets[j], heads[i], heads[j], length, lengths[other])
            if near:
                parents[max(a, b)] = min(a, b)


@numba.njit(cache=True, nogil=True, inline="always")
def _may_match(first, second):
    longer = max(first, second)
    return longer - min(first, second) <= min((3 * longer + 9) // 10, MAX_LENGTH_DIFFERENCE)


@numba.njit(cache=True, nogil=True)
def _fill_sets(units, length, words):
    """Bit sets of a text: 3- and 4-grams in 8,192 bits, then units in 256 and pairs in 512 bits."""
    words[:] = np.uint64(0)
    for start in range(length):
        if units[start] == 10:
            continue
        state = mix(GRAM_SEED, np.uint64(units[start]))
        _set_bit(words, LONG_WORDS, UNIGRAM_WORDS, state)
        for size in range(2, min(4, length - start) + 1):
            unit = units[start + size - 1]
            if unit == 10:
                break
            state = mix(state, np.uint64(unit))
            if size == 2:
                _set_bit(words, LONG_WORDS + UNIGRAM_WORDS, BIGRAM_WORDS, state)
            else:
                _set_bit(words, 0, LONG_WORDS, state)


@numba.njit(cache=True, nogil=True, inline="always")
def _set_bit(words, first, size, state):
    bit = np.int64(_scattered(state, SEEDS[0]) & np.uint64(64 * size - 1))
    words[first + (bit >> 6)] |= np.uint64(1) << np.uint64(bit & 63)


@numba.njit(cache=True, nogil=True)
def _prepare(units, length, words, rest, head):
    """What comparing a text needs: bit sets, the bits of the long one from each block of words on, its beginning."""
    _fill_sets(units, length, words)
    rest[NUM_BLOCKS] = 0
    for block in range(NUM_BLOCKS - 1, -1, -1):
        rest[block] = rest[block + 1]
        for word in range(block * BLOCK_WORDS, (block + 1) * BLOCK_WORDS):
            rest[block] += _num_ones(words[word])
    head[: min(length, HEAD_UNITS)] = units[: min(length, HEAD_UNITS)]


@numba.njit(cache=True, nogil=True)
def _long_overlap(sets_a, sets_b, rest_a, rest_b):
    """Whether the Jaccard similarity of the long sets is at least 0.7; stops as soon as it cannot be any more."""
    both = rest_a[0] + rest_b[0]
    common = 0
    for block in range(NUM_BLOCKS):
        # common / (both - common) >= 7 / 10, with all that is left taken for common.
        if 17 * (common + min(rest_a[block], rest_b[block])) < 7 * both:
            return False
        for word in range(block * BLOCK_WORDS, (block + 1) * BLOCK_WORDS):
            common += _num_ones(sets_a[word] & sets_b[word])
    return both > 0 and 17 * common >= 7 * both


@numba.njit(cache=True, nogil=True)
def _short_overlap(sets_a, sets_b, head_a, head_b, length_a, length_b):
    """Whether the Jaccard similarity of the short sets is at least 0.6, and few edits lie between the texts."""
    mean = (length_a + length_b) // 2
    long_enough = min(length_a, length_b) > SHORT_TEXT_UNITS
    common, either = 0, 0
    for word in range(LONG_WORDS, SET_WORDS if long_enough else LONG_WORDS + UNIGRAM_WORDS):
        common += _num_ones(sets_a[word] & sets_b[word])
        either += _num_ones(sets_a[word] | sets_b[word])
    if either == 0 or 10 * common < 6 * either:
        return False
    return 10 * _edits(head_a[:length_a], head_b[:length_b]) < 3 * mean


@numba.njit(cache=True, nogil=True)
def _edits(a, b):
    """Levenshtein distance."""
    row = np.arange(len(b) + 1)
    for i in range(len(a)):
        diagonal, row[0] = row[0], i + 1
        for j in range(len(b)):
            above = row[j + 1]
            row[j + 1] = min(min(above, row[j]) + 1, diagonal + (a[i] != b[j]))
            diagonal = above
    return row[len(b)]
