"""The search for duplicates on a device, with the decisions of the local engine: every pair and score is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tasks.curation.candidates import MAX_BUCKET, BandJob, Compared
from tasks.curation.config import FuzzyConfig
from tasks.curation.engines.device import Device, inverse
from tasks.curation.engines.device_pairs import Judge, candidates
from tasks.curation.engines.device_texts import FoldedTexts, band_keys_of, digests_of
from tasks.curation.folding import Folded
from tasks.curation.scanning import Scan
from tasks.curation.spool import Spool
from tasks.runtime import Runtime


class DeviceSearch:
    """All documents as a device knows them: their comparison forms, digests and band keys."""

    def __init__(self, device: Device) -> None:
        self.texts = FoldedTexts(device)
        self._device = device
        self._digests: list[Any] = []
        self._keys: list[Any] = []
        self._lengths = np.zeros(0, np.int64)

    def add(
        self, data: Any, bounds: Any, fuzzy: FuzzyConfig | None, *, wanted: bool
    ) -> tuple[Folded, np.ndarray] | None:
        """Takes in the next texts. data, bounds: as in TextBatch; what the host asks for (`wanted`): their comparison
        forms, and (documents, bands) uint64 band keys."""
        portion = self.texts.fold(data, bounds)
        self._digests.append(digests_of(self._device, portion))
        if fuzzy:
            self._keys.append(band_keys_of(self._device, portion, fuzzy))
        self.texts.add(portion)
        if not wanted:
            return None
        keys = self._device.to_host(self._keys[-1]) if fuzzy else np.zeros((0, len(bounds) - 1), np.uint64)
        return self.texts.to_host(portion), np.ascontiguousarray(keys.T)

    def lengths(self) -> np.ndarray:
        """(documents,) int64 characters of each; to be called when all have come."""
        self._lengths = self.texts.lengths()
        return self._lengths

    def folded(self, documents: np.ndarray) -> Folded:
        """The comparison forms of some documents, in that order, on the host."""
        return Folded(*map(self._device.to_host, self.texts.take(documents, self._lengths)))

    def twins(self, rank: np.ndarray, active: np.ndarray) -> np.ndarray:
        """For each active document the first-ranking one with the same digest; the others are their own."""
        digests, self._digests = self.digests(), []
        return twins_of(self._device, digests, rank, active)

    def digests(self) -> Any:
        """(documents, 2) uint64."""
        xp = self._device.xp
        return xp.concatenate([xp.zeros((0, 2), dtype=np.uint64), *self._digests])

    def drop_prints(self) -> None:
        """Frees the memory of digests and keys."""
        self._digests, self._keys = [], []

    def compare(
        self, among: np.ndarray, lengths: np.ndarray, fuzzy: FuzzyConfig, runtime: Runtime, folder: Path
    ) -> Compared:
        """As `compare_candidates`, which see."""
        folder.mkdir(parents=True)
        bands = band_jobs(among, fuzzy, folder)
        codes = candidates(self._device, bands, self._device.xp.asarray(among), self.keys)
        self._keys = []
        with open(folder / "pairs.edges", "wb") as file:
            for edges in Judge(self._device, self.texts, self._lengths).decided(codes, fuzzy):
                file.write(edges.data)
        return Compared((folder / "pairs.edges",), len(codes), bands)

    def keys(self, band: int) -> Any:
        """(documents,) uint64 keys of one band."""
        xp = self._device.xp
        return xp.concatenate([xp.zeros(0, dtype=np.uint64), *(portion[band] for portion in self._keys)])


def band_jobs(among: np.ndarray, fuzzy: FuzzyConfig, folder: Path) -> tuple[BandJob, ...]:
    """Jobs that only say where big buckets go: the texts and keys lie on devices."""
    spool = Spool.of(folder, ())
    num_bands = fuzzy.bands if len(among) else 0
    return tuple(BandJob(band, spool, folder / "among.npy", MAX_BUCKET, folder) for band in range(num_bands))


def twins_of(device: Device, digests: Any, rank: np.ndarray, active: np.ndarray) -> np.ndarray:
    """As `Search.twins`. digests: (documents, 2) uint64 on the device."""
    xp = device.xp
    twin = xp.arange(len(rank))
    order = device.order(xp.asarray(rank)) if len(rank) else twin
    order = order[xp.asarray(active)[order]]
    if not len(order):
        return device.to_host(twin)
    for half in (1, 0):
        order = order[device.order(digests[:, half][order])]
    digests = digests[order]
    starts = xp.ones(len(order), dtype=bool)
    starts[1:] = (digests[1:] != digests[:-1]).any(axis=1)
    twin[order] = order[starts][xp.cumsum(starts, dtype=np.int64) - 1]
    return device.to_host(twin)


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
