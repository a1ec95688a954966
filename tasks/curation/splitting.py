"""The stage split: train and validation, with all near-duplicates of a document on its side."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from data_contracts.artifacts import Corpus
from data_contracts.errors import DataError, ReconciliationError
from data_contracts.manifest import Summary
from data_contracts.rows import LEDGER
from tasks.curation.clusters import Clusters, find_clusters
from tasks.curation.config import SplitConfig
from tasks.curation.documents import (
    LEDGER_NAME,
    RowGroup,
    by_shard,
    examples_of,
    first_examples,
    ledger_rows,
    list_row_groups,
    reconcile,
    row_groups,
    rows_written,
    split_of,
)
from tasks.curation.engines.steps import steps_of
from tasks.curation.ranking import cluster_names
from tasks.curation.scanning import Scan
from tasks.curation.selecting import Output, SelectJob, select_rows
from tasks.workspace import SCRATCH_NAME, Workspace

TRAIN, VALIDATION, LEAKED = 0, 1, 2
SIDES = ("train", "validation")
DRAWN_AT_ONCE = 65_536
FOLDER = "split"
"""Folder of the scratch."""


def split_documents(config: SplitConfig, workspace: Workspace, corpus: Corpus) -> Summary:
    """Writes `documents/train-NNNNN.parquet`, `documents/validation-NNNNN.parquet` and `ledger.parquet`.

    Documents that are equal or near-duplicates form one component, which goes to one side by a hash of the seed and its
    smallest id: documents added later move none that they are not similar to. With `keep_source_validation` the
    shipped validation documents are that side, and train documents of their components are removed (filter `leak`).
    Raises DataError if a side is empty, ReconciliationError unless in = kept + removed and no component has two sides.
    """
    folder = workspace.scratch / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    steps = steps_of(workspace.runtime)
    scan = steps.scan(workspace, corpus.shards(), folder / "scan", config.fuzzy)
    ids = steps.id_ranks(scan.ids)
    rank = steps.survival_rank(scan, ids)
    clusters = find_clusters(
        scan.spool,
        scan.lengths,
        rank,
        exact=True,
        fuzzy=config.fuzzy,
        runtime=workspace.runtime,
        folder=folder / "candidates",
    )
    names = cluster_names(clusters.survivor, ids, scan.num_own)
    del ids, rank
    shutil.rmtree(folder / "scan")
    sides = _sides(config, scan, clusters, names)
    characters = _write_sides(config, workspace, corpus, sides, folder)
    examples = _write_ledger(config, workspace, corpus, scan, clusters, names, sides, folder)
    counts = _counts(clusters, sides, characters)
    proofs = {
        "documents": reconcile("split", workspace, corpus.shards(), counts),
        "leak": _leak_check(config, workspace, scan, clusters),
    }
    return Summary(counts=counts, proofs=proofs, examples=examples)


def side_of(component: str, config: SplitConfig) -> int:
    """TRAIN or VALIDATION for the component with that smallest id: xxh3_64 of "seed:id" as a fraction of 2^64."""
    fraction = xxhash.xxh3_64_intdigest(f"{config.seed}:{component}".encode()) / 2**64
    return VALIDATION if fraction < config.validation_share else TRAIN


def _sides(config: SplitConfig, scan: Scan, clusters: Clusters, names: np.ndarray) -> np.ndarray:
    """(documents,) uint8: TRAIN, VALIDATION or LEAKED. Raises DataError if a side gets no document."""
    if config.keep_source_validation:
        shipped = scan.standing == 0
        holds_shipped = np.zeros(len(shipped), dtype=bool)
        holds_shipped[clusters.survivor[shipped]] = True
        sides = np.where(shipped, VALIDATION, np.where(holds_shipped[clusters.survivor], LEAKED, TRAIN))
    else:
        sides = _drawn_sides(config, scan, names)
    for side, name in enumerate(SIDES):
        if not np.any(sides == side):
            raise DataError(
                f"`split`: found no document for {name} among {len(sides)}, expected at least one on each side",
                hint=_empty_side_hint(config, side),
            )
    return sides.astype(np.uint8)


def _drawn_sides(config: SplitConfig, scan: Scan, names: np.ndarray) -> np.ndarray:
    sides = np.zeros(len(names), dtype=np.uint8)
    components = np.unique(names)
    for start in range(0, len(components), DRAWN_AT_ONCE):
        drawn = components[start : start + DRAWN_AT_ONCE]
        sides[drawn] = [side_of(name, config) for name in scan.ids.take(pa.array(drawn)).to_pylist()]
    return sides[names]


def _empty_side_hint(config: SplitConfig, side: int) -> str:
    if config.keep_source_validation and side == VALIDATION:
        return "the source ships no validation documents, or all were filtered; set keep_source_validation to false"
    change = "raise" if side == VALIDATION else "lower"
    return f"use more documents, {change} validation_share, or change the seed"


def _counts(clusters: Clusters, sides: np.ndarray, characters: list[int]) -> dict[str, int]:
    kept = np.bincount(sides, minlength=3).tolist()
    return {
        "num_documents_in": len(sides),
        "num_documents_kept": kept[TRAIN] + kept[VALIDATION],
        "num_documents_removed": kept[LEAKED],
        "num_characters_in": sum(characters),
        "num_characters_kept": characters[TRAIN] + characters[VALIDATION],
        "num_characters_removed": characters[LEAKED],
        "removed_by_leak": kept[LEAKED],
        "num_documents_train": kept[TRAIN],
        "num_documents_validation": kept[VALIDATION],
        "num_characters_train": characters[TRAIN],
        "num_characters_validation": characters[VALIDATION],
        "num_components": len(np.unique(clusters.survivor)),
        "num_pairs_compared": clusters.edges.num_compared,
    }


def _write_sides(
    config: SplitConfig, workspace: Workspace, corpus: Corpus, sides: np.ndarray, folder: Path
) -> list[int]:
    """Writes each side's documents in the order of the input, and the leaked ones into the scratch; characters of all.

    A shard of a side is a job: it knows the rows it begins and ends with.
    """
    np.save(folder / "sides.npy", sides)
    groups, jobs = list_row_groups(corpus.shards()), []
    for side, split in enumerate(SIDES):
        rows = np.flatnonzero(sides == side)
        for number, start in enumerate(range(0, len(rows), config.rows_per_shard)):
            ends = rows[start : start + config.rows_per_shard][[0, -1]].tolist()
            output = Output(side, f"documents/{split}-{number:05d}.parquet")
            jobs.append(_job(groups, ends[0], ends[1] + 1, output, workspace, folder))
    for shard, own in by_shard(groups).items() if np.any(sides == LEAKED) else ():
        output = Output(LEAKED, _leaked_name(shard))
        jobs.append(_job(own, own[0].start, own[-1].start + own[-1].num_rows, output, workspace, folder))
    characters = [0, 0, 0]
    selected = select_rows(jobs, workspace.runtime)
    for job in jobs:
        (output,) = job.outputs
        characters[output.side] += selected[output.name].num_characters
        if output.side != LEAKED:
            workspace.add(selected[output.name].entry)
    return characters


def _job(
    groups: Sequence[RowGroup], first: int, stop: int, output: Output, workspace: Workspace, folder: Path
) -> SelectJob:
    inside = tuple(g for g in groups if g.start < stop and first < g.start + g.num_rows)
    return SelectJob(inside, first, stop, folder / "sides.npy", (output,), workspace.path)


def _leaked_name(shard: Path) -> str:
    return f"{SCRATCH_NAME}/{FOLDER}/leaked-{shard.name}"


def _write_ledger(
    config: SplitConfig,
    workspace: Workspace,
    corpus: Corpus,
    scan: Scan,
    clusters: Clusters,
    names: np.ndarray,
    sides: np.ndarray,
    folder: Path,
) -> list[dict[str, Any]]:
    leaked, start, examples = np.flatnonzero(sides == LEAKED), 0, []
    with rows_written(workspace, LEDGER_NAME, LEDGER) as ledger:
        for shard in corpus.shards():
            part = workspace.path / _leaked_name(shard)
            for table in row_groups(part) if part.is_file() else ():
                rows = leaked[start : start + table.num_rows]
                start += table.num_rows
                entries = _ledger(config, table, rows, split_of(shard), scan, clusters, names)
                ledger.write(entries)
                examples = first_examples([*examples, *examples_of(entries)])
    return examples


def _ledger(
    config: SplitConfig,
    removed: pa.Table,
    rows: np.ndarray,
    split: str,
    scan: Scan,
    clusters: Clusters,
    names: np.ndarray,
) -> pa.Table:
    # The survivor of a component with shipped validation documents is one of them, and it stays.
    equal = clusters.twin[rows] != rows
    matched = np.where(equal, clusters.twin[rows], clusters.partner[rows])
    score = np.where(equal, 1.0, clusters.similarity[rows])
    kept_ids = scan.ids.take(pa.array(clusters.survivor[rows]))
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
        cluster=scan.ids.take(pa.array(names[rows])),
        kept_id=kept_ids,
        matched_id=scan.ids.take(pa.array(matched)),
    )


def _leak_check(config: SplitConfig, workspace: Workspace, scan: Scan, clusters: Clusters) -> dict[str, Any]:
    """Figures of the proof that no pair crosses, from the sides that the files on disk give each id.

    Raises ReconciliationError for a pair that does.
    """
    written = np.full(scan.num_own, LEAKED, dtype=np.uint8)
    for side, split in enumerate(SIDES):
        shards = sorted((workspace.path / "documents").glob(f"{split}-*.parquet"))
        for group in list_row_groups(shards):
            written[scan.index.find(group.read(["id"])["id"])] = side
    copies = np.flatnonzero(clusters.twin != np.arange(scan.num_own))
    num_pairs, across = len(copies), _num_across(written, copies, clusters.twin[copies])
    for edges in clusters.edges.portions():
        num_pairs += len(edges)
        across += _num_across(written, edges["first"], edges["second"])
    if across:
        raise ReconciliationError(
            f"`split`: found {across} near-duplicate pairs across train and validation, expected none",
            hint="a fault of this stage; report it with the corpus that shows it",
        )
    return {
        "num_pairs_across": across,
        "num_duplicate_pairs": num_pairs,
        "jaccard_threshold": config.fuzzy.jaccard_threshold,
        "expected_recall_at_threshold": config.fuzzy.recall_at(config.fuzzy.jaccard_threshold),
        "expected_recall": config.fuzzy.recall_curve(),
    }


def _num_across(written: np.ndarray, first: np.ndarray, second: np.ndarray) -> int:
    one, other = written[first], written[second]
    return int(np.count_nonzero((one != other) & (one != LEAKED) & (other != LEAKED)))
