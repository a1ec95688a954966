"""Many strings sought in many texts at once (Aho and Corasick 1975), on code points."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numba
import numpy as np

from tasks.curation.repeats import MIX

LETTERS, KATAKANA = 1, 2
UNSPACED_ALPHABETS = ((0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800))
"""Thai, Lao, Burmese and Khmer, which like Chinese and Japanese are written without spaces between words."""


class Automaton(NamedTuple):
    """States are numbered from 0, the root.

    keys, targets: open hash table of (state << 21 | code point) to state, -1 for an empty slot; fallback: (states,) the
    longest proper suffix that is a state; entry: (states,) which entry ends here, or -1; output: (states,) the longest
    proper suffix at which an entry ends, or 0; lengths: (entries,) in code points.
    """

    keys: np.ndarray
    targets: np.ndarray
    fallback: np.ndarray
    entry: np.ndarray
    output: np.ndarray
    lengths: np.ndarray


@lru_cache(maxsize=8)
def automaton(entries: tuple[str, ...]) -> Automaton:
    """The automaton that finds all of `entries`, which are distinct and not empty."""
    codes, bounds = code_points(entries)
    return Automaton(*_build(codes, bounds), np.diff(bounds))


def code_points(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(characters,) uint32 code points of all texts, (texts + 1,) int64 bounds of each."""
    bounds = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in texts], out=bounds[1:])
    return np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32), bounds


def count_matches(texts: Sequence[str], entries: tuple[str, ...], *, whole_runs: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each text, how many distinct entries occur in it and how many occurrences there are; (texts,) int64 each.

    Occurrences may overlap. whole_runs: an entry that begins or ends with a letter, digit or katakana does not count
    where another of its kind stands directly before or behind it.
    """
    codes, bounds = code_points(texts)
    return _count(codes, bounds, automaton(entries), _run_kinds(), whole_runs)


@cache
def _run_kinds() -> np.ndarray:
    """(0x10000,) uint8: LETTERS for what writes words with spaces between them, KATAKANA, or 0."""
    kinds = np.zeros(0x10000, dtype=np.uint8)
    kinds[[code for code in range(0x2E80) if chr(code).isalnum()]] = LETTERS
    for start, stop in UNSPACED_ALPHABETS:
        kinds[start:stop] = 0
    full_width = [code for code in range(0xFF10, 0xFF5B) if chr(code).isalnum()]
    kinds[full_width] = LETTERS
    for start, stop in ((0x30A1, 0x30FB), (0x30FC, 0x30FF), (0x31F0, 0x3200), (0xFF66, 0xFFA0)):
        kinds[start:stop] = KATAKANA
    return kinds


@numba.njit(cache=True, nogil=True, inline="always")
def _slot(keys, key):
    """Where a key lies in an open table, or where it belongs."""
    mask = len(keys) - 1
    mixed = np.uint64(key) * MIX
    slot = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(mask))
    while keys[slot] != -1 and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@numba.njit(cache=True, nogil=True, inline="always")
def _next(keys, targets, fallback, state, code):
    """The state after one more character."""
    while True:
        key = (state << 21) | code
        slot = _slot(keys, key)
        if keys[slot] == key:
            return np.int64(targets[slot])
        if state == 0:
            return np.int64(0)
        state = np.int64(fallback[state])


@numba.njit(cache=True, nogil=True)
def _build(codes, bounds):
    size = 64
    while size < 2 * (len(codes) + 1):
        size *= 2
    keys, targets = np.full(size, -1, np.int64), np.zeros(size, np.int32)
    capacity, num_states = len(codes) + 1, 1
    parent, last = np.zeros(capacity, np.int32), np.zeros(capacity, np.int64)
    depth, entry = np.zeros(capacity, np.int64), np.full(capacity, -1, np.int32)
    for index in range(len(bounds) - 1):
        state = np.int64(0)
        for position in range(bounds[index], bounds[index + 1]):
            key = (state << 21) | np.int64(codes[position])
            slot = _slot(keys, key)
            if keys[slot] == -1:
                keys[slot], targets[slot] = key, num_states
                parent[num_states], last[num_states] = state, np.int64(codes[position])
                depth[num_states] = depth[state] + 1
                num_states += 1
            state = np.int64(targets[slot])
        entry[state] = index
    fallback, output = np.zeros(num_states, np.int32), np.zeros(num_states, np.int32)
    # A state's fallback is nearer to the root than itself, so nearer ones come first.
    for state in np.argsort(depth[:num_states], kind="mergesort"):
        if depth[state] > 1:
            suffix = _next(keys, targets, fallback, np.int64(fallback[parent[state]]), last[state])
            fallback[state] = suffix
            output[state] = suffix if entry[suffix] >= 0 else output[suffix]
    return keys, targets, fallback, entry[:num_states].copy(), output


@numba.njit(cache=True, nogil=True, inline="always")
def _kind(kinds, code):
    return kinds[code] if code < len(kinds) else np.uint8(0)


@numba.njit(cache=True, nogil=True, inline="always")
def _inside_run(codes, kinds, first, last, start, end):
    """Whether the piece of a text from `first` to `last`, both included, goes on with a character of the same kind."""
    before, after = _kind(kinds, codes[first]), _kind(kinds, codes[last])
    if before and first > start and _kind(kinds, codes[first - 1]) == before:
        return True
    return after and last + 1 < end and _kind(kinds, codes[last + 1]) == after


@numba.njit(cache=True, nogil=True)
def _count(codes, bounds, automaton, kinds, whole_runs):
    size = len(bounds) - 1
    distinct, total = np.zeros(size, np.int64), np.zeros(size, np.int64)
    stamps = np.full(len(automaton.lengths), -1, np.int64)
    for text in range(size):
        state = np.int64(0)
        for position in range(bounds[text], bounds[text + 1]):
            code = np.int64(codes[position])
            state = _next(automaton.keys, automaton.targets, automaton.fallback, state, code)
            found = state if automaton.entry[state] >= 0 else np.int64(automaton.output[state])
            while found:
                entry = automaton.entry[found]
                first = position - automaton.lengths[entry] + 1
                if not (whole_runs and _inside_run(codes, kinds, first, position, bounds[text], bounds[text + 1])):
                    total[text] += 1
                    distinct[text] += stamps[entry] != text
                    stamps[entry] = text
                found = np.int64(automaton.output[found])
    return distinct, total
