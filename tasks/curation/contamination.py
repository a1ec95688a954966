"""The search of a corpus for the items of evaluation sets: by the n-grams of an item that a document holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa

from tasks.curation.config import EvaluationSet, FuzzyConfig
from tasks.curation.folding import Folded, fold
from tasks.curation.minhash import BASE, GramSets, band_keys, gram_sets, mixed

FINDING = np.dtype([("document", np.int64), ("item", np.int64), ("score", np.float64), ("is_near", np.bool_)])
"""A contaminated document. score: share of the item's n-grams that it holds; if is_near, their Jaccard similarity."""

ARRAYS = ("slots", "grams", "bounds", "items", "sizes", "minima", "windows")


class Items(NamedTuple):
    """The items of all evaluation sets that are long enough to be looked for.

    ids: `<name>:<id>`; texts: (items,) strings; sets: (items,) int64 place of each one's set in `against`;
    num_too_short: those left out, by the name of their set.
    """

    ids: list[str]
    texts: pa.LargeStringArray
    sets: np.ndarray
    num_too_short: dict[str, int]


def gather_items(sets: Iterable[tuple[EvaluationSet, Iterable[pa.Table]]]) -> Items:
    """All items whose comparison form has at least `min_item_characters`. sets: with tables of columns id and text."""
    ids, texts, places, num_too_short = [], [], [], {}
    for place, (config, tables) in enumerate(sets):
        num_too_short[config.name] = 0
        for table in tables:
            long = np.diff(fold(table["text"]).bounds) >= config.min_item_characters
            num_too_short[config.name] += int(np.count_nonzero(~long))
            kept = table.filter(pa.array(long))
            ids += kept["id"].to_pylist()
            texts += kept["text"].to_pylist()
            places += [place] * kept.num_rows
    return Items(ids, pa.array(texts, pa.large_string()), np.array(places, dtype=np.int64), num_too_short)


class EvaluationIndex:
    """The n-grams of evaluation items in a hash table, and the fingerprints that find their near-duplicates.

    An item's n-gram is as long as its set's config says; an item that is shorter is one n-gram, its whole comparison
    form. n-grams are told apart by 64-bit hashes: a document of m n-grams is credited with one that it does not hold
    with a probability of m * n-grams of all items / 2^64 (2e-11 for m = 340 and a million).
    """

    def __init__(self, arrays: dict[str, np.ndarray], near: NearItems | None) -> None:
        self._arrays, self._near = arrays, near
        num_grams, num_items = len(arrays["bounds"]) - 1, len(arrays["sizes"])
        self._marks = np.full(num_grams, -1), np.full(num_items, -1), np.zeros(num_items, np.int64)
        self._num_searched = 0

    @staticmethod
    def save(folder: Path, items: Items, configs: list[EvaluationSet], fuzzy: FuzzyConfig | None) -> None:
        """Writes the index of the items into a folder, from which jobs on any machine open it."""
        folder.mkdir(parents=True)
        folded = fold(items.texts)
        ngrams = np.array([config.ngram_characters for config in configs], dtype=np.int64)[items.sets]
        windows = np.minimum(np.diff(folded.bounds), ngrams)
        hashes, owners = _item_grams(*folded, windows)
        order = np.lexsort((owners, hashes))
        hashes, owners = hashes[order], owners[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
        hashes, owners = hashes[new], owners[new]
        values, starts = np.unique(hashes, return_index=True)
        slots, grams = _table(values)
        arrays = {
            "slots": slots,
            "grams": grams,
            "bounds": np.append(starts, len(owners)).astype(np.int64),
            "items": owners,
            "sizes": np.bincount(owners, minlength=len(windows)),
            "minima": np.array([config.min_containment for config in configs])[items.sets],
            "windows": np.unique(windows),
        }
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", arrays[name])
        if fuzzy:
            NearItems.save(folder, folded, fuzzy)

    @classmethod
    def open(cls, folder: Path) -> EvaluationIndex:
        # Mapped: the processes of a machine share one copy.
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        return cls(arrays, NearItems.open(folder))

    def search(self, folded: Folded, keys: np.ndarray, first: int) -> np.ndarray:
        """(n,) FINDING: the documents that hold enough of an item, or are near-duplicates of one, with the best item.

        keys: (documents, bands) their band keys; first: the number of the first of them.
        """
        num_documents = len(folded.bounds) - 1
        best, score = np.full(num_documents, -1), np.zeros(num_documents)
        arrays = [self._arrays[name] for name in ARRAYS]
        _search(*[*folded, *arrays, *self._marks, self._num_searched, best, score])
        self._num_searched += num_documents
        found = np.flatnonzero(best >= 0)
        findings = np.zeros(len(found), dtype=FINDING)
        findings["document"], findings["item"], findings["score"] = found, best[found], score[found]
        if self._near:
            near = self._near.search(folded, keys)
            findings = np.concatenate([findings, near[~np.isin(near["document"], found)]])
            findings = findings[np.argsort(findings["document"])]
        findings["document"] += first
        return findings


class NearItems:
    """Near-duplicates of items: candidates by their band keys, decided by the exact Jaccard similarity."""

    def __init__(self, keys: np.ndarray, sets: GramSets, ngram: int, threshold: float) -> None:
        self._sets, self._ngram, self._threshold = sets, ngram, threshold
        self._orders = [np.argsort(keys[:, band], kind="stable") for band in range(keys.shape[1])]
        self._sorted = [keys[order, band] for band, order in enumerate(self._orders)]

    @staticmethod
    def save(folder: Path, folded: Folded, fuzzy: FuzzyConfig) -> None:
        sets = gram_sets(folded, fuzzy.ngram_characters)
        np.savez(
            folder / "near.npz",
            keys=band_keys(folded, fuzzy),
            values=sets.values,
            bounds=sets.bounds,
            parameters=np.array([fuzzy.ngram_characters, fuzzy.jaccard_threshold]),
        )

    @classmethod
    def open(cls, folder: Path) -> NearItems | None:
        """None where near-duplicates are not sought."""
        if not (folder / "near.npz").is_file():
            return None
        with np.load(folder / "near.npz") as saved:
            ngram, threshold = saved["parameters"].tolist()
            return cls(saved["keys"], GramSets(saved["values"], saved["bounds"]), int(ngram), threshold)

    def search(self, folded: Folded, keys: np.ndarray) -> np.ndarray:
        """(n,) FINDING with the most similar item of each near-duplicate, by document."""
        best: dict[int, tuple[float, int]] = {}
        for document, item in sorted(self._candidates(keys)):
            codes = folded.codes[folded.bounds[document] : folded.bounds[document + 1]]
            own = gram_sets(Folded(codes, np.array([0, len(codes)])), self._ngram).values
            other = self._sets.values[self._sets.bounds[item] : self._sets.bounds[item + 1]]
            common = len(np.intersect1d(own, other, assume_unique=True))
            score = common / (len(own) + len(other) - common)
            if score >= self._threshold and score > best.get(document, (0.0, -1))[0]:
                best[document] = score, item
        return np.array([(document, item, score, True) for document, (score, item) in best.items()], dtype=FINDING)

    def _candidates(self, keys: np.ndarray) -> set[tuple[int, int]]:
        pairs: set[tuple[int, int]] = set()
        for band, (order, ordered) in enumerate(zip(self._orders, self._sorted, strict=True)):
            starts = np.searchsorted(ordered, keys[:, band], side="left")
            stops = np.searchsorted(ordered, keys[:, band], side="right")
            for document in np.flatnonzero(stops > starts).tolist():
                pairs.update((document, item) for item in order[starts[document] : stops[document]].tolist())
        return pairs


@numba.njit(cache=True, nogil=True, inline="always")
def _first_window(codes, start, window):
    value = np.uint64(0)
    for position in range(start, start + window):
        value = value * BASE + np.uint64(codes[position])
    return value


@numba.njit(cache=True, nogil=True, inline="always")
def _power(window):
    value = np.uint64(1)
    for _ in range(window):
        value *= BASE
    return value


@numba.njit(cache=True, nogil=True)
def _item_grams(codes, bounds, windows):
    """Hash of each n-gram of each item, and the item that it is of."""
    total = 0
    for item in range(len(windows)):
        total += bounds[item + 1] - bounds[item] - windows[item] + 1
    hashes, owners = np.empty(total, dtype=np.uint64), np.empty(total, dtype=np.int64)
    place = 0
    for item in range(len(windows)):
        window = windows[item]
        # The length is part of the hash: a short item is found as such only.
        salt = np.uint64(window) * _power(window)
        for start in range(bounds[item], bounds[item + 1] - window + 1):
            hashes[place] = mixed(_first_window(codes, start, window) + salt)
            owners[place] = item
            place += 1
    return hashes, owners


@numba.njit(cache=True, nogil=True)
def _table(values):
    """An open hash table: (slots,) uint64 values, and (slots,) int64 which value it is, -1 for a free slot."""
    size = 16
    while size < 2 * len(values):
        size *= 2
    slots, places = np.zeros(size, dtype=np.uint64), np.full(size, -1)
    for place in range(len(values)):
        slot = np.int64(values[place] & np.uint64(size - 1))
        while places[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        slots[slot], places[slot] = values[place], place
    return slots, places


@numba.njit(cache=True, nogil=True)
def _search(
    codes,
    bounds,
    slots,
    grams,
    gram_bounds,
    items,
    sizes,
    minima,
    windows,
    gram_seen,
    item_seen,
    held,
    first,
    best,
    score,
):
    """Sets `best` and `score` of each document. gram_seen, item_seen: the last document that held it."""
    touched = np.empty(len(sizes), dtype=np.int64)
    last_slot = len(slots) - 1
    for document in range(len(bounds) - 1):
        number, num_touched = first + document, 0
        for window in windows:
            power = _power(window - 1)
            salt = np.uint64(window) * power * BASE
            start, stop = bounds[document], bounds[document + 1] - window
            if start > stop:
                continue
            value = _first_window(codes, start, window)
            for position in range(start, stop + 1):
                if position > start:
                    gone, come = np.uint64(codes[position - 1]), np.uint64(codes[position + window - 1])
                    value = (value - gone * power) * BASE + come
                wanted = mixed(value + salt)
                slot = np.int64(wanted & np.uint64(last_slot))
                while grams[slot] >= 0 and slots[slot] != wanted:
                    slot = (slot + 1) & last_slot
                gram = grams[slot]
                if gram < 0 or gram_seen[gram] == number:
                    continue
                gram_seen[gram] = number
                for place in range(gram_bounds[gram], gram_bounds[gram + 1]):
                    item = items[place]
                    if item_seen[item] != number:
                        item_seen[item], held[item] = number, 0
                        touched[num_touched] = item
                        num_touched += 1
                    held[item] += 1
        for index in range(num_touched):
            item = touched[index]
            share = held[item] / sizes[item]
            if share >= minima[item] and (
                share > score[document] or (share == score[document] and item < best[document])
            ):
                best[document], score[document] = item, share
