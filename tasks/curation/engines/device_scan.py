"""The scan of a corpus by a device: as `scan_corpus`, but texts go to the device and no spool is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.curation.characters import text_buffers
from tasks.curation.config import Documents, FuzzyConfig
from tasks.curation.contamination import FINDING, EvaluationIndex
from tasks.curation.documents import RowGroup, list_row_groups
from tasks.curation.engines.device import Device, TextBatch
from tasks.curation.engines.device_search import DeviceSearch
from tasks.curation.identifiers import IdIndex
from tasks.curation.references import DocumentFile, rows_of
from tasks.curation.scanning import Scan, own_standing
from tasks.workspace import Workspace

BATCH_BYTES = 1 << 30
"""Row groups are read together up to this size."""

PORTION_BYTES = 512 << 20
"""Text that is folded at once, which takes some 20 times its size; a longer document is a portion of its own."""


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
    num_own = sum(group.num_rows for group in groups)
    search = DeviceSearch(device)
    index = EvaluationIndex.open(evaluation) if evaluation else None
    ids, findings, done = [], [np.zeros(0, FINDING)], 0
    workspace.progress(0, num_own)
    for batch in _own_batches(device, groups):
        for data, bounds in _portions(device, batch):
            texts = search.add(data, bounds, fuzzy, wanted=index is not None)
            if index and texts:
                findings.append(index.search(*texts, first=done))
            done += len(bounds) - 1
            workspace.progress(done, num_own)
        ids.append(batch.ids)
    standing = [own_standing(groups, len(kept))]
    for position, (_, files) in enumerate(kept):
        for batch in (batch for file in files for batch in _file_batches(device, file)):
            for data, bounds in _portions(device, batch):
                search.add(data, bounds, fuzzy, wanted=False)
            ids.append(batch.ids)
            standing.append(np.full(len(batch.ids), position))
    all_ids = pa.chunked_array(ids, pa.large_string()).combine_chunks()
    own_ids = IdIndex(all_ids.slice(0, num_own))
    own_ids.check_unique()
    order = np.concatenate(standing).astype(np.int64)
    return Scan(search, all_ids, search.lengths(), order, num_own, own_ids, np.concatenate(findings))


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
