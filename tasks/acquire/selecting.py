"""Ids told apart and the draw of `max_documents`, by the hashes of the ids: 8 bytes a document are in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_contracts.files import FileEntry, HashingFile
from data_contracts.rows import DOCUMENTS, PARQUET_OPTIONS, ROWS_PER_GROUP
from tasks.acquire.shards import hashes_path, id_hash

NewIds = dict[int, str]
"""Row of a shard -> the id that tells it from an earlier document."""


class Selection(NamedTuple):
    """What becomes of one shard. mask: (documents,) bool, which stay; new_ids: also of rows that do not stay."""

    mask: np.ndarray
    new_ids: NewIds


def select(shards: Sequence[Path], max_documents: int | None, seed: int) -> list[Selection]:
    """What becomes of each shard. A repeated id gets its place added; the first in the order of `shards` keeps it.

    Exact whatever the hashes: documents of equal hash are compared and ordered by their ids.
    """
    hashes = [np.load(hashes_path(shard)) for shard in shards]
    new_ids = distinguish(shards, hashes, seed)
    masks = [np.ones(len(h), bool) for h in hashes]
    if max_documents is not None and sum(map(len, hashes)) > max_documents:
        masks = _draw(shards, hashes, new_ids, max_documents)
    return [Selection(mask, new) for mask, new in zip(masks, new_ids, strict=True)]


class Kept(NamedTuple):
    """A shard of the artifact and what it holds."""

    entry: FileEntry
    num_documents: int
    num_characters: int


class RewriteJob(NamedTuple):
    """A shard of which not everything stays as it is. source, target: folders that hold `name`."""

    source: Path
    target: Path
    name: str
    selection: Selection


def rewrite(job: RewriteJob) -> Kept:
    """Writes what stays of a shard."""
    table = pq.read_table(job.source / job.name, use_threads=False)
    if job.selection.new_ids:
        ids = table["id"].to_pylist()
        for row, identifier in job.selection.new_ids.items():
            ids[row] = identifier
        table = table.set_column(0, DOCUMENTS.field("id"), pa.array(ids, pa.string()))
    table = table.filter(pa.array(job.selection.mask)).cast(DOCUMENTS)
    with HashingFile(job.target / job.name) as file, pq.ParquetWriter(file, DOCUMENTS, **PARQUET_OPTIONS) as writer:
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    return Kept(file.entry(job.name), len(table), pc.sum(pc.utf8_length(table["text"])).as_py())


def distinguish(shards: Sequence[Path], hashes: list[np.ndarray], seed: int) -> list[NewIds]:
    """New ids for documents whose id an earlier one has; their new hashes are put into `hashes`."""
    everything = np.sort(np.concatenate(hashes)) if hashes else np.empty(0, np.uint64)
    repeated = np.unique(everything[1:][everything[1:] == everything[:-1]])
    seen: set[str] = set()
    made: set[int] = set()
    result: list[NewIds] = []
    for shard, own in zip(shards, hashes, strict=True):
        rows = np.flatnonzero(_is_in(own, repeated))
        new_ids: NewIds = {}
        for row, identifier, place in zip(rows.tolist(), *_columns(shard, rows, ["id", "source"]), strict=True):
            if identifier in seen:
                new_ids[row] = _unused(f"{identifier}@{place}", everything, made, seed)
            seen.add(identifier)
        result.append(new_ids)
        for row, identifier in new_ids.items():
            own[row] = id_hash(identifier, seed)
    return result


def _unused(identifier: str, everything: np.ndarray, made: set[int], seed: int) -> str:
    """The id, made longer until its hash is nobody's. `made`: hashes of the ids that were made so far."""
    while (found := id_hash(identifier, seed)) in made or _is_in(np.array([found], np.uint64), everything)[0]:
        identifier += "'"
    made.add(found)
    return identifier


def _draw(
    shards: Sequence[Path], hashes: list[np.ndarray], new_ids: list[NewIds], max_documents: int
) -> list[np.ndarray]:
    """Masks of the `max_documents` smallest hashes; of those equal to the last of them, the ones of smallest id."""
    bound = np.partition(np.concatenate(hashes), max_documents - 1)[max_documents - 1]
    masks = [h < bound for h in hashes]
    tied = [np.flatnonzero(h == bound) for h in hashes]
    wanted = max_documents - sum(int(mask.sum()) for mask in masks)
    candidates: list[tuple[str, int, int]] = []
    if wanted < sum(map(len, tied)):
        for number, rows in enumerate(tied):
            (ids,) = _columns(shards[number], rows, ["id"])
            named = zip(rows.tolist(), ids, strict=True)
            candidates += [(new_ids[number].get(row, identifier), number, row) for row, identifier in named]
    else:
        candidates = [("", number, row) for number, rows in enumerate(tied) for row in rows.tolist()]
    for _, number, row in sorted(candidates)[:wanted]:
        masks[number][row] = True
    return masks


def _is_in(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Which values occur in an ascending array."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    return ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values


def _columns(shard: Path, rows: np.ndarray, names: list[str]) -> list[list[str]]:
    """Values of some columns at those rows; nothing is read where there are none."""
    if not len(rows):
        return [[] for _ in names]
    table = pq.read_table(shard, columns=names, use_threads=False)
    return [pc.take(table[name], rows).to_pylist() for name in names]
