"""Candidate pairs on a device, and their exact similarities: each is the one that the local engine finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from data_contracts.errors import DataError
from tasks.curation.candidates import BandJob, edges_of
from tasks.curation.config import FuzzyConfig
from tasks.curation.engines.device import BLOCK, WARP, Device, ends_of
from tasks.curation.engines.device_texts import FoldedTexts

MOST_ROWS = (1 << 31) - 2
"""A column of libcudf, which sorts, has no more."""

COMPACTED_CODES = 1 << 28
"""Codes of candidate pairs are made unique when so many have come together."""

BYTES_PER_GRAM = 96
"""Memory that an n-gram takes while the sets of a batch of pairs are sorted."""


def candidates(device: Device, bands: Sequence[BandJob], among: Any, keys_of: Callable[[int], Any]) -> Any:
    """(pairs,) int64 codes of all pairs that share a bucket of some band, sorted and each once, on the device.

    Big buckets are left as the local engine leaves them. among: (n,) int64 documents; keys_of: the (documents,) keys of
    a band; both on the device.
    """
    found, waiting, num_waiting = device.xp.zeros(0, dtype=np.int64), [], 0
    for job in bands:
        codes = _band_pairs(device, job, among, keys_of(job.band)[among])
        num_waiting += len(codes)
        waiting.append(codes)
        if num_waiting > COMPACTED_CODES:
            found, waiting, num_waiting = unique_codes(device, [found, *waiting]), [], 0
    return unique_codes(device, [found, *waiting])


def _band_pairs(device: Device, job: BandJob, among: Any, keys: Any) -> Any:
    xp, order = device.xp, device.order(keys)
    keys, documents, size = keys[order], among[order], len(order)
    ranks, is_big = xp.empty(size, dtype=np.int32), xp.empty(size, dtype=np.uint8)
    device.run("bucket_ranks", size, keys, np.int64(size), np.int32(job.max_bucket), ranks, is_big)
    big = xp.flatnonzero(is_big)
    _write_big(job, device.to_host(documents[big]), device.to_host(keys[big]))
    ends = ends_of(device, ranks)
    codes = xp.empty(int(ends[-1]), dtype=np.int64)
    device.run("bucket_pairs", size, documents, ranks, ends[1:], np.int64(size), codes)
    return codes


def _write_big(job: BandJob, documents: np.ndarray, keys: np.ndarray) -> None:
    """The buckets that are too big, as the local engine leaves them."""
    starts = np.flatnonzero(np.concatenate((np.ones(min(1, len(keys)), bool), keys[1:] != keys[:-1])))
    job.path("big").write_bytes(documents.data)
    np.save(job.path("sizes.npy"), np.diff(np.append(starts, len(keys))))


def unique_codes(device: Device, pieces: list[Any]) -> Any:
    """(pairs,) int64 codes of all pieces, sorted and each once."""
    codes = device.xp.concatenate(pieces)
    if len(codes) > MOST_ROWS:
        raise DataError(
            f"`dedup`: found {len(codes)} candidate pairs, expected at most {MOST_ROWS} on a GPU",
            hint="use fewer bands or more rows, filter what is alike first, or use the engine local",
        )
    if not len(codes):
        return codes
    codes = codes[device.order(codes)]
    new = device.xp.ones(len(codes), dtype=bool)
    new[1:] = codes[1:] != codes[:-1]
    return codes[new]


class Judge:
    """Decides candidate pairs. lengths: (documents,) characters of all documents of `texts`."""

    def __init__(self, device: Device, texts: FoldedTexts, lengths: np.ndarray) -> None:
        self._device, self._texts, self._lengths = device, texts, lengths

    def decided(self, codes: Any, fuzzy: FuzzyConfig) -> Iterator[np.ndarray]:
        """EDGE rows of the pairs that are similar enough, in batches whose n-gram sets fit on the device."""
        if not len(codes):
            return
        xp = self._device.xp
        pairs = codes >> 32, codes & 0xFFFFFFFF
        needed = xp.zeros(len(self._lengths), dtype=bool)
        for side in pairs:
            needed[side] = True
        documents = self._device.to_host(xp.flatnonzero(needed))
        grams = int(np.maximum(self._lengths[documents] - fuzzy.ngram_characters + 1, 1).sum())
        if grams > min(MOST_ROWS, self._device.free_bytes() // BYTES_PER_GRAM) and len(codes) > 1:
            yield from self.decided(codes[: len(codes) // 2], fuzzy)
            yield from self.decided(codes[len(codes) // 2 :], fuzzy)
            return
        places = xp.cumsum(needed, dtype=np.int64) - 1
        yield self._near(documents, pairs, [places[side] for side in pairs], fuzzy)

    def _near(self, documents: np.ndarray, pairs: Any, places: Any, fuzzy: FuzzyConfig) -> np.ndarray:
        device = self._device
        values, bounds = self._gram_sets(documents, fuzzy.ngram_characters)
        size = len(places[0])
        common = device.xp.zeros(size, dtype=np.uint32)
        device.run("common_grams", size, values, bounds, *places, np.int64(size), common, threads=WARP)
        sizes = device.xp.diff(bounds)
        both = device.to_host(sizes[places[0]] + sizes[places[1]])
        shared = device.to_host(common).astype(np.int64)
        # Divided on the host as the local engine divides, so that a score at the threshold falls on the same side.
        scores = shared / (both - shared)
        near = scores >= fuzzy.jaccard_threshold
        pairs = np.stack([device.to_host(side) for side in pairs], axis=1)
        return edges_of(pairs[near], scores[near])

    def _gram_sets(self, documents: np.ndarray, ngram: int) -> tuple[Any, Any]:
        """Sorted and unique n-gram hashes of some documents, and their bounds, on the device."""
        xp, device, size = self._device.xp, self._device, len(documents)
        codes, bounds = self._texts.take(documents, self._lengths)
        gram_bounds = ends_of(device, xp.maximum(xp.diff(bounds) - (ngram - 1), 1))
        hashes = xp.empty(int(gram_bounds[-1]), dtype=np.uint64)
        owners = xp.empty(len(hashes), dtype=np.int32)
        arguments = codes, bounds, np.int64(size), np.int32(ngram), gram_bounds, hashes, owners
        device.run("gram_hashes", size, *arguments, threads=BLOCK)
        order = device.order(hashes)
        order = order[device.order(owners[order])]
        hashes, owners = hashes[order], owners[order]
        new = xp.ones(len(hashes), dtype=bool)
        new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
        return hashes[new], ends_of(device, xp.bincount(owners[new], minlength=size))
