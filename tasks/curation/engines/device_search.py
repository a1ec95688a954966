"""The search for duplicates on a device, with the decisions of the local engine: every pair and score is the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.errors import DataError
from tasks.curation.candidates import MAX_BUCKET, BandJob, Compared, edges_of
from tasks.curation.config import FuzzyConfig
from tasks.curation.engines.device import BLOCK, WARP, Device, ends_of, inverse
from tasks.curation.engines.device_texts import FoldedTexts, band_keys_of, digests_of
from tasks.curation.folding import Folded
from tasks.curation.scanning import Scan
from tasks.curation.spool import Spool
from tasks.runtime import Runtime

MOST_ROWS = (1 << 31) - 2
"""A column of libcudf, which sorts, has no more."""

COMPACTED_CODES = 1 << 28
"""Codes of candidate pairs are made unique when so many have come together."""

BYTES_PER_GRAM = 96
"""Memory that an n-gram takes while the sets of a batch of pairs are sorted."""


class DeviceSearch:
    """All documents as a device knows them: their comparison forms, digests and band keys."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._texts = FoldedTexts(device)
        self._digests: list[Any] = []
        self._keys: list[Any] = []
        self._lengths = np.zeros(0, np.int64)

    def add(
        self, data: Any, bounds: Any, fuzzy: FuzzyConfig | None, *, wanted: bool
    ) -> tuple[Folded, np.ndarray] | None:
        """Takes in the next texts. data, bounds: as in TextBatch; what the host asks for (`wanted`): their comparison
        forms, and (documents, bands) uint64 band keys."""
        portion = self._texts.fold(data, bounds)
        self._digests.append(digests_of(self._device, portion))
        if fuzzy:
            self._keys.append(band_keys_of(self._device, portion, fuzzy))
        self._texts.add(portion)
        if not wanted:
            return None
        keys = self._device.to_host(self._keys[-1]) if fuzzy else np.zeros((0, len(bounds) - 1), np.uint64)
        return self._texts.to_host(portion), np.ascontiguousarray(keys.T)

    def lengths(self) -> np.ndarray:
        """(documents,) int64 characters of each; to be called when all have come."""
        self._lengths = self._texts.lengths()
        return self._lengths

    def folded(self, documents: np.ndarray) -> Folded:
        """The comparison forms of some documents, in that order, on the host."""
        return Folded(*map(self._device.to_host, self._texts.take(documents, self._lengths)))

    def twins(self, rank: np.ndarray, active: np.ndarray) -> np.ndarray:
        """For each active document the first-ranking one with the same digest; the others are their own."""
        xp, device = self._device.xp, self._device
        twin = xp.arange(len(rank))
        digests, self._digests = self._digests, []
        order = device.order(xp.asarray(rank)) if len(rank) else twin
        order = order[xp.asarray(active)[order]]
        if not len(order):
            return device.to_host(twin)
        digests = xp.concatenate(digests)
        for half in (1, 0):
            order = order[device.order(digests[:, half][order])]
        digests = digests[order]
        starts = xp.ones(len(order), dtype=bool)
        starts[1:] = (digests[1:] != digests[:-1]).any(axis=1)
        twin[order] = order[starts][xp.cumsum(starts, dtype=np.int64) - 1]
        return device.to_host(twin)

    def compare(
        self, among: np.ndarray, lengths: np.ndarray, fuzzy: FuzzyConfig, runtime: Runtime, folder: Path
    ) -> Compared:
        """As `compare_candidates`, which see."""
        folder.mkdir(parents=True)
        # Their texts lie on the device.
        spool = Spool.of(folder, ())
        num_bands = fuzzy.bands if len(among) else 0
        bands = tuple(BandJob(band, spool, folder / "among.npy", MAX_BUCKET, folder) for band in range(num_bands))
        codes = self._candidates(among, bands)
        with open(folder / "pairs.edges", "wb") as file:
            for edges in self._decided(codes, fuzzy):
                file.write(edges.data)
        return Compared((folder / "pairs.edges",), len(codes), bands)

    def _candidates(self, among: np.ndarray, bands: tuple[BandJob, ...]) -> Any:
        """(pairs,) int64 codes of all pairs that share a bucket of some band, sorted and each once."""
        chosen = self._device.xp.asarray(among)
        found, waiting, num_waiting = self._device.xp.zeros(0, dtype=np.int64), [], 0
        for job in bands:
            codes = self._band_pairs(job, chosen)
            num_waiting += len(codes)
            waiting.append(codes)
            if num_waiting > COMPACTED_CODES:
                found, waiting, num_waiting = self._unique([found, *waiting]), [], 0
        self._keys = []
        return self._unique([found, *waiting])

    def _band_pairs(self, job: BandJob, among: Any) -> Any:
        xp, device = self._device.xp, self._device
        keys = xp.concatenate([portion[job.band] for portion in self._keys])[among]
        order = device.order(keys)
        keys, documents, size = keys[order], among[order], len(order)
        ranks, is_big = xp.empty(size, dtype=np.int32), xp.empty(size, dtype=np.uint8)
        device.run("bucket_ranks", size, keys, np.int64(size), np.int32(job.max_bucket), ranks, is_big)
        big = xp.flatnonzero(is_big)
        _write_big(job, device.to_host(documents[big]), device.to_host(keys[big]))
        ends = ends_of(device, ranks)
        codes = xp.empty(int(ends[-1]), dtype=np.int64)
        device.run("bucket_pairs", size, documents, ranks, ends[1:], np.int64(size), codes)
        return codes

    def _unique(self, pieces: list[Any]) -> Any:
        codes = self._device.xp.concatenate(pieces)
        if len(codes) > MOST_ROWS:
            raise DataError(
                f"`dedup`: found {len(codes)} candidate pairs, expected at most {MOST_ROWS} on a GPU",
                hint="use fewer bands or more rows, filter what is alike first, or use the engine local",
            )
        if not len(codes):
            return codes
        codes = codes[self._device.order(codes)]
        new = self._device.xp.ones(len(codes), dtype=bool)
        new[1:] = codes[1:] != codes[:-1]
        return codes[new]

    def _decided(self, codes: Any, fuzzy: FuzzyConfig) -> Iterator[np.ndarray]:
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
            yield from self._decided(codes[: len(codes) // 2], fuzzy)
            yield from self._decided(codes[len(codes) // 2 :], fuzzy)
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


def _write_big(job: BandJob, documents: np.ndarray, keys: np.ndarray) -> None:
    """The buckets that are too big, as the local engine leaves them."""
    starts = np.flatnonzero(np.concatenate((np.ones(min(1, len(keys)), bool), keys[1:] != keys[:-1])))
    job.path("big").write_bytes(documents.data)
    np.save(job.path("sizes.npy"), np.diff(np.append(starts, len(keys))))


def device_id_ranks(device: Device, ids: Any) -> np.ndarray:
    """As `id_ranks`, which see."""
    return device.to_host(inverse(device, device.order_of_strings(ids))) if len(ids) else np.zeros(0, np.int64)


def device_survival_rank(device: Device, scan: Scan, ids: np.ndarray) -> np.ndarray:
    """As `survival_rank`, which see."""
    if not len(ids):
        return ids
    xp = device.xp
    by_id = device.order(xp.asarray(ids))
    # No text has 2^40 characters.
    keys = (xp.asarray(scan.standing) << 40) + ((1 << 40) - 1 - xp.asarray(scan.lengths))
    return device.to_host(inverse(device, by_id[device.order(keys[by_id])]))
