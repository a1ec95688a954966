"""The stage split: train and validation, with all near-duplicates of a document on its side."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, which a type checker cannot see.
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from data_contracts.artifacts import Corpus
from data_contracts.errors import DataError, ReconciliationError
from data_contracts.manifest import Summary
from data_contracts.rows import DOCUMENTS, LEDGER
from tasks.curation.clusters import Clusters, find_clusters, fingerprint
from tasks.curation.config import SplitConfig
from tasks.curation.deduplication import cluster_ids, survival_rank
from tasks.curation.documents import (
    LEDGER_NAME,
    GroupWriter,
    Loaded,
    examples_of,
    first_examples,
    ledger_rows,
    load,
    num_characters,
    reconcile,
    row_groups,
    rows_written,
    split_of,
)
from tasks.workspace import Workspace

TRAIN, VALIDATION, LEAKED = 0, 1, 2
SIDES = ("train", "validation")


def split_documents(config: SplitConfig, workspace: Workspace, corpus: Corpus) -> Summary:
    """Writes `documents/train-NNNNN.parquet`, `documents/validation-NNNNN.parquet` and `ledger.parquet`.

    Documents that are equal or near-duplicates form one component, which goes to one side by a hash of the seed and its
    smallest id: documents added later move none that they are not similar to. With `keep_source_validation` the
    shipped validation documents are that side, and train documents of their components are removed (filter `leak`).
    Raises DataError if a side is empty, ReconciliationError unless in = kept + removed and no component has two sides.
    """
    shards, threads = corpus.shards(), workspace.runtime.workers
    documents = load(shards)
    total = len(documents.ids)
    workspace.progress(0, total)
    prints = fingerprint(
        documents.texts, config.fuzzy, threads=threads, progress=lambda done: workspace.progress(done, total)
    )
    rank = survival_rank(documents, prints.lengths)
    clusters = find_clusters(documents.texts, prints, rank, exact=True, fuzzy=config.fuzzy, threads=threads)
    names = cluster_ids(clusters.survivor, documents.ids)
    sides = _sides(config, documents, clusters, names)
    examples = _write(config, workspace, corpus, documents, clusters, names, sides)
    counts = _counts(documents, clusters, sides)
    proofs = {
        "documents": reconcile("split", workspace, shards, counts),
        "leak": _leak_check(config, workspace, documents, clusters),
    }
    return Summary(counts=counts, proofs=proofs, examples=examples)


def side_of(component: str, config: SplitConfig) -> int:
    """TRAIN or VALIDATION for the component with that smallest id: xxh3_64 of "seed:id" as a fraction of 2^64."""
    fraction = xxhash.xxh3_64_intdigest(f"{config.seed}:{component}".encode()) / 2**64
    return VALIDATION if fraction < config.validation_share else TRAIN


def _sides(config: SplitConfig, documents: Loaded, clusters: Clusters, names: pa.ChunkedArray) -> np.ndarray:
    """(documents,) int64: TRAIN, VALIDATION or LEAKED. Raises DataError if a side gets no document."""
    if config.keep_source_validation:
        shipped = documents.shipped_validation
        holds_shipped = np.zeros(len(shipped), dtype=bool)
        holds_shipped[clusters.survivor[shipped]] = True
        sides = np.where(shipped, VALIDATION, np.where(holds_shipped[clusters.survivor], LEAKED, TRAIN))
    else:
        sides = np.fromiter((side_of(name, config) for name in names.to_pylist()), dtype=np.int64, count=len(names))
    for side, name in enumerate(SIDES):
        if not np.any(sides == side):
            raise DataError(
                f"`split`: found no document for {name} among {len(sides)}, expected at least one on each side",
                hint=_empty_side_hint(config, side),
            )
    return sides


def _empty_side_hint(config: SplitConfig, side: int) -> str:
    if config.keep_source_validation and side == VALIDATION:
        return "the source ships no validation documents, or all were filtered; set keep_source_validation to false"
    change = "raise" if side == VALIDATION else "lower"
    return f"use more documents, {change} validation_share, or change the seed"


def _counts(documents: Loaded, clusters: Clusters, sides: np.ndarray) -> dict[str, int]:
    characters = [num_characters(documents.texts.filter(pa.array(sides == side))) for side in (0, 1, 2)]
    kept = np.bincount(sides, minlength=3)
    return {
        "num_documents_in": len(sides),
        "num_documents_kept": int(kept[TRAIN] + kept[VALIDATION]),
        "num_documents_removed": int(kept[LEAKED]),
        "num_characters_in": sum(characters),
        "num_characters_kept": characters[TRAIN] + characters[VALIDATION],
        "num_characters_removed": characters[LEAKED],
        "removed_by_leak": int(kept[LEAKED]),
        "num_documents_train": int(kept[TRAIN]),
        "num_documents_validation": int(kept[VALIDATION]),
        "num_characters_train": characters[TRAIN],
        "num_characters_validation": characters[VALIDATION],
        "num_components": len(np.unique(clusters.survivor)),
        "num_pairs_compared": clusters.edges.num_compared,
    }


class ShardedRows:
    """Writes the rows of one split into shards of a bounded number of rows."""

    def __init__(self, workspace: Workspace, split: str, rows_per_shard: int) -> None:
        self._workspace, self._split, self._rows_per_shard = workspace, split, rows_per_shard
        self._num_rows = 0
        self._shard = ExitStack()
        self._rows: GroupWriter | None = None

    def write(self, table: pa.Table) -> None:
        while table.num_rows:
            room = self._rows_per_shard - self._num_rows % self._rows_per_shard
            self._open().write(table.slice(0, room))
            self._num_rows += min(room, table.num_rows)
            table = table.slice(room)
            if self._num_rows % self._rows_per_shard == 0:
                self.close()

    def _open(self) -> GroupWriter:
        if self._rows is None:
            name = f"documents/{self._split}-{self._num_rows // self._rows_per_shard:05d}.parquet"
            self._rows = self._shard.enter_context(rows_written(self._workspace, name, DOCUMENTS))
        return self._rows

    def close(self) -> None:
        self._shard.close()
        self._rows = None


@contextmanager
def _sharded(config: SplitConfig, workspace: Workspace) -> Iterator[list[ShardedRows]]:
    writers = [ShardedRows(workspace, split, config.rows_per_shard) for split in SIDES]
    yield writers
    for writer in writers:
        writer.close()


def _write(
    config: SplitConfig,
    workspace: Workspace,
    corpus: Corpus,
    documents: Loaded,
    clusters: Clusters,
    names: pa.ChunkedArray,
    sides: np.ndarray,
) -> list[dict[str, Any]]:
    start, examples = 0, []
    with rows_written(workspace, LEDGER_NAME, LEDGER) as ledger, _sharded(config, workspace) as writers:
        for shard in corpus.shards():
            for table in row_groups(shard):
                rows = np.arange(start, start + table.num_rows)
                start += table.num_rows
                for side, writer in enumerate(writers):
                    writer.write(table.filter(pa.array(sides[rows] == side)))
                leaked = sides[rows] == LEAKED
                removed = table.filter(pa.array(leaked))
                entries = _ledger(config, removed, rows[leaked], split_of(shard), documents, clusters, names)
                ledger.write(entries)
                examples = first_examples([*examples, *examples_of(entries)])
    return examples


def _ledger(
    config: SplitConfig,
    removed: pa.Table,
    rows: np.ndarray,
    split: str,
    documents: Loaded,
    clusters: Clusters,
    names: pa.ChunkedArray,
) -> pa.Table:
    # The survivor of a component with shipped validation documents is one of them, and it stays.
    equal = clusters.twin[rows] != rows
    matched = np.where(equal, clusters.twin[rows], clusters.partner[rows])
    score = np.where(equal, 1.0, clusters.similarity[rows])
    kept_ids = documents.ids.take(pa.array(clusters.survivor[rows]))
    reasons = [
        f"leak: in one duplicate cluster with the validation document {kept}, Jaccard similarity {s:.6g} to its nearest"
        for s, kept in zip(score.tolist(), kept_ids.to_pylist(), strict=True)
    ]
    return ledger_rows(
        removed,
        split,
        filter=pa.repeat("leak", len(rows)),
        score=score,
        threshold=np.full(len(rows), config.fuzzy.jaccard_threshold),
        reason=pa.array(reasons, pa.string()),
        cluster=names.take(pa.array(rows)),
        kept_id=kept_ids,
        matched_id=documents.ids.take(pa.array(matched)),
    )


def _leak_check(config: SplitConfig, workspace: Workspace, documents: Loaded, clusters: Clusters) -> dict[str, Any]:
    """Figures of the proof that no pair crosses, from the sides that the files on disk give each id.

    Raises ReconciliationError for a pair that does.
    """
    written = np.full(len(documents.ids), LEAKED)
    for side, split in enumerate(SIDES):
        shards = sorted((workspace.path / "documents").glob(f"{split}-*.parquet"))
        ids = pa.concat_arrays([c for s in shards for g in row_groups(s, ["id"]) for c in g["id"].chunks])
        written[pc.index_in(ids, value_set=documents.ids).to_numpy()] = side
    twins = np.stack((np.arange(len(written)), clusters.twin), axis=1)
    pairs = np.concatenate((clusters.edges.pairs, twins[twins[:, 0] != twins[:, 1]]))
    ends = written[pairs]
    across = int(np.count_nonzero((ends[:, 0] != ends[:, 1]) & (ends != LEAKED).all(axis=1)))
    if across:
        raise ReconciliationError(
            f"`split`: found {across} near-duplicate pairs across train and validation, expected none",
            hint="a fault of this stage; report it with the corpus that shows it",
        )
    return {
        "num_pairs_across": across,
        "num_duplicate_pairs": len(pairs),
        "jaccard_threshold": config.fuzzy.jaccard_threshold,
        "expected_recall_at_threshold": config.fuzzy.recall_at(config.fuzzy.jaccard_threshold),
    }
