"""Dedup on several devices, each in a worker of a Dask cluster: the scan and the search, with the bytes of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.curation.candidates import BandJob, Compared
from tasks.curation.config import Documents, FuzzyConfig
from tasks.curation.documents import RowGroup, list_row_groups
from tasks.curation.engines.device_cluster import DeviceCluster
from tasks.curation.engines.device_part import (
    Exchange,
    decide,
    find_candidates,
    find_twins,
    folded_of,
    lend,
    take_part,
    taken_of,
)
from tasks.curation.engines.device_scan import Share, scan_of
from tasks.curation.engines.device_search import band_jobs
from tasks.curation.folding import Folded
from tasks.curation.references import DocumentFile
from tasks.curation.scanning import Scan
from tasks.runtime import Runtime
from tasks.workspace import Workspace


def scan_on_devices(
    cluster: DeviceCluster,
    workspace: Workspace,
    shards: Sequence[Path],
    folder: Path,
    fuzzy: FuzzyConfig | None,
    *,
    kept: Sequence[tuple[Documents, Sequence[DocumentFile]]] = (),
    evaluation: Path | None = None,
) -> Scan:
    """As `scan_on_device`, each device with a run of the documents. Raises WorkerLost when a worker dies."""
    folder.mkdir(parents=True)
    groups = list_row_groups(shards)
    total = sum(group.num_rows for group in groups)
    shares = _shares(groups, [file for _, files in kept for file in files], len(cluster))
    workspace.progress(0, total)
    parts = [
        cluster.submit(number, take_part, cluster.make_device, share, fuzzy, evaluation, Exchange(folder), number)
        for number, share in enumerate(shares)
    ]
    taken = cluster.results([cluster.submit(number, taken_of, part) for number, part in enumerate(parts)])
    workspace.progress(total, total)
    starts = np.cumsum([0, *(len(part.lengths) for part in taken)]).tolist()
    return scan_of(PartedSearch(cluster, parts, Exchange(folder, tuple(starts))), taken, groups, kept)


def _shares(groups: Sequence[RowGroup], files: Sequence[DocumentFile], count: int) -> list[Share]:
    """Runs of neighbours with about the same number of bytes."""
    sizes = np.array([*(group.num_bytes for group in groups), *(file.path.stat().st_size for file in files)], float)
    owners = ((np.cumsum(sizes) - sizes / 2) * count / max(sizes.sum(), 1)).astype(int)
    of_groups, of_files = owners[: len(groups)].tolist(), owners[len(groups) :].tolist()
    return [
        Share(
            tuple(group for group, owner in zip(groups, of_groups, strict=True) if owner == number),
            tuple(file for file, owner in zip(files, of_files, strict=True) if owner == number),
        )
        for number in range(count)
    ]


class PartedSearch:
    """See `Search`. parts: a future of each worker's Part, which stays there."""

    def __init__(self, cluster: DeviceCluster, parts: list[Any], exchange: Exchange) -> None:
        self._cluster, self._parts, self._exchange = cluster, parts, exchange

    def twins(self, rank: np.ndarray, active: np.ndarray) -> np.ndarray:
        """By the first device."""
        np.save(self._exchange.path("rank.npy"), rank)
        np.save(self._exchange.path("active.npy"), active)
        return self._cluster.results([self._cluster.submit(0, find_twins, self._parts[0], self._exchange)])[0]

    def compare(
        self, among: np.ndarray, lengths: np.ndarray, fuzzy: FuzzyConfig, runtime: Runtime, folder: Path
    ) -> Compared:
        """As `compare_candidates`, which see."""
        folder.mkdir(parents=True)
        np.save(folder / "among.npy", among)
        bands = band_jobs(among, fuzzy, folder)
        edges = [folder / f"pairs-{number}.edges" for number in range(len(self._parts))]
        self.find_candidates(bands)
        self.lend()
        compared = self.decide(fuzzy, edges)
        return Compared(tuple(edges), sum(compared), bands)

    def find_candidates(self, bands: Sequence[BandJob]) -> None:
        """Each device groups some of the bands."""
        count = len(self._parts)
        self._on_each(find_candidates, [(tuple(bands[number::count]),) for number in range(count)])

    def lend(self) -> None:
        """Each device leaves the texts that others need."""
        self._on_each(lend, [()] * len(self._parts))

    def decide(self, fuzzy: FuzzyConfig, edges: Sequence[Path]) -> list[int]:
        """Each device decides the pairs whose first document it has; how many it had."""
        return self._on_each(decide, [(fuzzy, path) for path in edges])

    def folded(self, documents: np.ndarray) -> Folded:
        """The comparison forms of some documents, in that order."""
        owners = np.searchsorted(self._exchange.starts, documents, side="right") - 1
        order = np.argsort(owners, kind="stable")
        asked = [
            self._cluster.submit(number, folded_of, part, documents[owners == number] - self._exchange.starts[number])
            for number, part in enumerate(self._parts)
        ]
        pieces = self._cluster.results(asked)
        texts = [
            text for piece in pieces for text in np.split(piece.codes, piece.bounds[1:-1]) if len(piece.bounds) > 1
        ]
        lengths = np.empty(len(documents), dtype=np.int64)
        lengths[order] = np.concatenate([np.diff(piece.bounds) for piece in pieces])
        places = np.empty(len(documents), dtype=np.int64)
        places[order] = np.arange(len(documents))
        codes = np.concatenate([np.zeros(0, np.uint32), *(texts[place] for place in places.tolist())])
        return Folded(codes, np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))))

    def _on_each(self, function: Any, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        calls = enumerate(zip(self._parts, arguments, strict=True))
        return self._cluster.results(
            [self._cluster.submit(n, function, part, self._exchange, n, *more) for n, (part, more) in calls]
        )
