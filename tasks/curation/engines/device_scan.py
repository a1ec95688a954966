"""The scan of a corpus by a device: as `scan_corpus`, but texts go to the device and no spool is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tasks.curation.characters import text_buffers
from tasks.curation.clusters import Search
from tasks.curation.config import Documents, FuzzyConfig
from tasks.curation.contamination import FINDING, EvaluationIndex
from tasks.curation.documents import RowGroup, list_row_groups
from tasks.curation.engines.device import Device, TextBatch
from tasks.curation.engines.device_search import DeviceSearch
from tasks.curation.identifiers import IdIndex
from tasks.curation.references import DocumentFile, rows_of
from tasks.curation.scanning import Scan, own_standing
from tasks.runtime import Progress
from tasks.workspace import Workspace, no_progress

BATCH_BYTES = 1 << 30
"""Row groups are read together up to this size."""

PORTION_BYTES = 512 << 20
"""Text that is folded at once, which takes some 20 times its size; a longer document is a portion of its own."""


class Share(NamedTuple):
    """What one device takes in: row groups of the corpus, then files of kept references."""

    groups: tuple[RowGroup, ...]
    files: tuple[DocumentFile, ...]


class Taken(NamedTuple):
    """What the host knows of the documents of a share.

    lengths: (documents,) int64 characters; sizes: documents of each file; findings: (n,) FINDING, document counted from
    the first of the share.
    """

    ids: pa.LargeStringArray
    lengths: np.ndarray
    sizes: tuple[int, ...]
    findings: np.ndarray


def scan_on_device(
    device: Device,
    workspace: Workspace,
    shards: Sequence[Path],
    folder: Path,
    fuzzy: FuzzyConfig | None,
    *,
    kept: Sequence[tuple[Documents, Sequence[DocumentFile]]] = (),
    evaluation: Path | None = None,
) -> Scan:
    """The documents of all shards and of the kept references, on the device; see `scan_corpus`.

    Evaluation items are sought on the host, by one core.
    """
    folder.mkdir(parents=True)
    groups = list_row_groups(shards)
    share = Share(tuple(groups), tuple(file for _, files in kept for file in files))
    search = DeviceSearch(device)
    return scan_of(search, [take_in(search, device, share, fuzzy, evaluation, workspace.progress)], groups, kept)


def take_in(
    search: DeviceSearch,
    device: Device,
    share: Share,
    fuzzy: FuzzyConfig | None,
    evaluation: Path | None,
    progress: Progress = no_progress,
) -> Taken:
    """Adds the documents of a share to the search of its device; only those of the corpus are searched for items."""
    num_own = sum(group.num_rows for group in share.groups)
    index = EvaluationIndex.open(evaluation) if evaluation else None
    ids, findings, done = [], [np.zeros(0, FINDING)], 0
    progress(0, num_own)
    for batch in _own_batches(device, share.groups):
        for data, bounds in _portions(device, batch):
            texts = search.add(data, bounds, fuzzy, wanted=index is not None)
            if index and texts:
                findings.append(index.search(*texts, first=done))
            done += len(bounds) - 1
            progress(done, num_own)
        ids.append(batch.ids)
    sizes = []
    for file in share.files:
        batches = list(_file_batches(device, file))
        for data, bounds in (portion for batch in batches for portion in _portions(device, batch)):
            search.add(data, bounds, fuzzy, wanted=False)
        ids += [batch.ids for batch in batches]
        sizes.append(sum(len(batch.ids) for batch in batches))
    all_ids = pa.chunked_array(ids, pa.large_string()).combine_chunks()
    return Taken(all_ids, search.lengths(), tuple(sizes), np.concatenate(findings))


def scan_of(
    search: Search,
    taken: Sequence[Taken],
    groups: Sequence[RowGroup],
    kept: Sequence[tuple[Documents, Sequence[DocumentFile]]],
) -> Scan:
    """The scan of all documents, of which each device took a run. Raises DataError as `scan_corpus`."""
    num_own = sum(group.num_rows for group in groups)
    ids = pa.chunked_array([part.ids for part in taken], pa.large_string()).combine_chunks()
    index = IdIndex(ids.slice(0, num_own))
    index.check_unique()
    places = [position for position, (_, files) in enumerate(kept) for _ in files]
    sizes = [size for part in taken for size in part.sizes]
    standing = np.concatenate([own_standing(groups, len(kept)), np.repeat(np.array(places, dtype=np.int64), sizes)])
    first = 0
    for part in taken:
        part.findings["document"] += first
        first += len(part.lengths)
    lengths = np.concatenate([part.lengths for part in taken])
    findings = np.concatenate([part.findings for part in taken])
    return Scan(search, ids, lengths, standing.astype(np.int64), num_own, index, findings)


def _own_batches(device: Device, groups: Sequence[RowGroup]) -> Iterator[TextBatch]:
    waiting: list[RowGroup] = []
    for group in (group for group in groups if group.num_rows):
        if waiting and sum(g.num_bytes for g in waiting) + group.num_bytes > BATCH_BYTES:
            yield device.read(waiting)
            waiting = []
        waiting.append(group)
    if waiting:
        yield device.read(waiting)


def _file_batches(device: Device, file: DocumentFile) -> Iterator[TextBatch]:
    for table in rows_of(file):
        if table.num_rows:
            ids, texts = (table[name].combine_chunks().cast(pa.large_string()) for name in ("id", "text"))
            data, bounds = text_buffers(texts)
            bytes_of_texts = np.ascontiguousarray(data[bounds[0] : bounds[-1]])
            yield TextBatch(ids, device.xp.asarray(bytes_of_texts), device.xp.asarray(bounds - bounds[0]))


def _portions(device: Device, batch: TextBatch) -> Iterator[tuple[Any, Any]]:
    """Bytes and bounds of as many documents at once as PORTION_BYTES allow, at least one."""
    ends, start = device.to_host(batch.bounds), 0
    while start < len(ends) - 1:
        stop = int(np.searchsorted(ends, ends[start] + PORTION_BYTES, side="right")) - 1
        stop = max(stop, start + 1)
        yield batch.data[int(ends[start]) : int(ends[stop])], batch.bounds[start : stop + 1] - int(ends[start])
        start = stop
