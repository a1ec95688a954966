"""Longest matches of a word list in the paragraphs of documents, by a trie over UTF-8 bytes."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np

from tasks.curation.characters import text_buffers
from tasks.curation.uzushio.paragraphs import Documents

LINE_ENDS = re.compile("\r\n|\r|\n")


class Matches(NamedTuple):
    """(documents,) float64 over the entries found, n times each: n, how many entries, sqrt(n), 1 + log10(n) summed."""

    instances: np.ndarray
    uniq: np.ndarray
    sqrt: np.ndarray
    log10: np.ndarray


class Trie(NamedTuple):
    """Nodes of a trie, the root first: (nodes,) int32 first child, next sibling, entry that ends there (-1: none);
    (nodes,) uint8 byte that leads there."""

    child: np.ndarray
    sibling: np.ndarray
    entry: np.ndarray
    byte: np.ndarray


def find_words(documents: Documents, alive: np.ndarray, word_list: Path) -> Matches:
    """What of the list occurs in the alive paragraphs of the documents of the mask `alive`."""
    trie = read_trie(word_list, word_list.stat().st_mtime_ns)
    totals = np.zeros((4, len(alive)), dtype=np.float64)
    seen = documents.alive & alive[documents.owner]
    counts = np.zeros(int(trie.entry.max(initial=-1)) + 1, dtype=np.int64)
    _find(*text_buffers(documents.texts), documents.bounds, seen, *trie, _first_children(trie), counts, totals)
    return Matches(*totals)


@lru_cache(maxsize=8)
def read_trie(word_list: Path, modified_ns: int) -> Trie:
    """The trie of a list. `modified_ns` makes a changed file another one."""
    lines = LINE_ENDS.split(word_list.read_text(encoding="utf-8"))
    return build_trie([line for line in lines if line and not line.startswith("#")])


def build_trie(words: list[str]) -> Trie:
    """The trie of some words; an entry's number is its place in the list."""
    child, sibling, entry, byte = [-1], [-1], [-1], [0]
    places: dict[tuple[int, int], int] = {}
    for number, word in enumerate(words):
        node = 0
        for value in word.encode():
            following = places.get((node, value))
            if following is None:
                following = places[node, value] = len(child)
                child.append(-1)
                sibling.append(child[node])
                entry.append(-1)
                byte.append(value)
                child[node] = following
            node = following
        entry[node] = number
    children, siblings, entries = (np.array(column, dtype=np.int32) for column in (child, sibling, entry))
    return Trie(children, siblings, entries, np.array(byte, dtype=np.uint8))


def _first_children(trie: Trie) -> np.ndarray:
    """(256,) int32 child of the root for each byte, -1 for none: most positions of a text end here."""
    table = np.full(256, -1, dtype=np.int32)
    node = trie.child[0]
    while node >= 0:
        table[trie.byte[node]] = node
        node = trie.sibling[node]
    return table


@numba.njit(cache=True, nogil=True)
def _longest(data, position, end, child, sibling, entry, byte, first):
    """Entry and end of the longest match that starts at a position; -1 for none."""
    found, stop = -1, position
    node = first[data[position]]
    while node >= 0:
        position += 1
        if entry[node] >= 0:
            found, stop = entry[node], position
        if position >= end:
            break
        wanted = data[position]
        node = child[node]
        while node >= 0 and byte[node] != wanted:
            node = sibling[node]
    return found, stop


@numba.njit(cache=True, nogil=True)
def _find(data, places, bounds, seen, child, sibling, entry, byte, first, counts, totals):
    touched = np.empty(len(counts), dtype=np.int64)
    for document in range(len(bounds) - 1):
        num_touched = 0
        for paragraph in range(bounds[document], bounds[document + 1]):
            if not seen[paragraph]:
                continue
            position, end = places[paragraph], places[paragraph + 1]
            while position < end:
                found, stop = _longest(data, position, end, child, sibling, entry, byte, first)
                if found < 0:
                    position += 1
                    continue
                position = stop
                if counts[found] == 0:
                    touched[num_touched] = found
                    num_touched += 1
                counts[found] += 1
        for index in range(num_touched):
            count = counts[touched[index]]
            counts[touched[index]] = 0
            totals[0, document] += count
            totals[1, document] += 1
            totals[2, document] += np.sqrt(count)
            totals[3, document] += 1 + np.log10(count)
