"""Numbers that look random and depend on a document's id alone, as Uzushio draws them."""

from __future__ import annotations

import math

import numba
import numpy as np
import pyarrow as pa

from tasks.curation.characters import decode, text_buffers

INCREMENT = np.uint64(1442695040888963407)
MULTIPLIER = np.uint64(6364136223846793005)
TEXT_SEED = np.uint64(0xDEADBEEFFEED133)
RANDOM_BITS = 54

JAVA_MULTIPLIER = 0x5DEECE66D
JAVA_MASK = (1 << 48) - 1


@numba.njit(cache=True, nogil=True, inline="always")
def mix(state, value):
    """State of the hash after one more value, modulo 2^64: ror(((value + increment) xor state) * multiplier, 23)."""
    mixed = ((value + INCREMENT) ^ state) * MULTIPLIER
    return (mixed >> np.uint64(23)) | (mixed << np.uint64(41))


def hash_texts(texts: pa.Array) -> np.ndarray:
    """(texts,) uint64: the hash of each text's UTF-16 code units, their number mixed in last."""
    hashes = np.empty(len(texts), dtype=np.uint64)
    _hash_texts(*text_buffers(texts), hashes)
    return hashes


def random_of(ids: pa.Array) -> np.ndarray:
    """(documents,) float64 in [0, 1): the low 54 bits of each id's hash; the same id always gets the same number."""
    return (hash_texts(ids) & np.uint64((1 << RANDOM_BITS) - 1)).astype(np.float64) / float(1 << RANDOM_BITS)


def gaussian(seed: int) -> float:
    """The first `nextGaussian()` of `java.util.Random(seed)`, by its published algorithm (LCG, polar method).

    seed: 64 bits, signed or not.
    """
    state = (seed ^ JAVA_MULTIPLIER) & JAVA_MASK
    while True:
        first, state = _java_double(state)
        second, state = _java_double(state)
        x, y = 2 * first - 1, 2 * second - 1
        square = x * x + y * y
        if 0 < square < 1:
            return x * math.sqrt(-2 * math.log(square) / square)


def _java_double(state: int) -> tuple[float, int]:
    state = (state * JAVA_MULTIPLIER + 0xB) & JAVA_MASK
    high = state >> (48 - 26)
    state = (state * JAVA_MULTIPLIER + 0xB) & JAVA_MASK
    return ((high << 27) + (state >> (48 - 27))) / (1 << 53), state


@numba.njit(cache=True, nogil=True)
def _hash_texts(data, bounds, hashes):
    for text in range(len(hashes)):
        position, end = bounds[text], bounds[text + 1]
        state, length = TEXT_SEED, np.uint64(0)
        while position < end:
            code, position = decode(data, position)
            if code < 0x10000:
                state = mix(state, np.uint64(code))
                length += np.uint64(1)
            else:
                state = mix(state, np.uint64(0xD800 + ((code - 0x10000) >> 10)))
                state = mix(state, np.uint64(0xDC00 + ((code - 0x10000) & 0x3FF)))
                length += np.uint64(2)
        hashes[text] = mix(state, length)
