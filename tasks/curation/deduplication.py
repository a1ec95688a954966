"""The stage dedup: one document of each duplicate cluster stays, the others go to the ledger."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from data_contracts.artifacts import Corpus
from data_contracts.errors import SourceError
from data_contracts.manifest import Summary
from tasks.curation.clusters import Clusters, find_clusters
from tasks.curation.config import DedupConfig, EvaluationSet, FuzzyConfig, KeptCorpus
from tasks.curation.contamination import EvaluationIndex, Items, gather_items
from tasks.curation.documents import (
    by_shard,
    list_row_groups,
    num_bytes_of,
    reconcile,
    rows_written,
)
from tasks.curation.engines.steps import steps_of
from tasks.curation.ranking import cluster_names
from tasks.curation.references import DocumentFile, content_digest, files_of, rows_of
from tasks.curation.removals import (
    CONTAMINATION,
    EXACT,
    FILTERS,
    KNOWN,
    NEAR,
    STAYS,
    Verdicts,
    survivors_proof,
    write_ledger,
)
from tasks.curation.scanning import Scan
from tasks.curation.selecting import Output, Selected, SelectJob, select_in_order
from tasks.curation.workers import light_processes
from tasks.workspace import SCRATCH_NAME, Workspace

CLUSTERS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("cluster", pa.string(), nullable=False),  # smallest id of the cluster, or the reference in it
    ]
)
CLUSTERS_NAME = "clusters.parquet"
CLUSTERS_AT_ONCE = 65_536
SURVIVOR_RULE = "shipped validation first, then the longest comparison text, then the smallest id"
KEPT, REMOVED = 0, 1
FOLDER = "dedup"
"""Folder of the scratch."""


class References(NamedTuple):
    """What the corpus is compared with. evaluation: folder of the saved index of `items`, None without any set."""

    digests: dict[str, str]
    kept: list[tuple[KeptCorpus, list[DocumentFile]]]
    items: Items
    evaluation: Path | None


def remove_duplicates(config: DedupConfig, workspace: Workspace, corpus: Corpus) -> Summary:
    """Writes the shards of `corpus` without duplicates, `ledger.parquet`, and `clusters.parquet` of all clusters.

    Which document of a cluster stays: SURVIVOR_RULE; none does where it holds a document of a kept reference, and none
    that holds an evaluation item. Raises DataError for an id that occurs twice, SourceError for a reference that cannot
    be read or changes meanwhile, and ReconciliationError unless documents in = kept + removed and the survivor of every
    removed one is kept.
    """
    with light_processes(workspace.runtime, num_bytes=num_bytes_of(corpus.shards())):
        return _remove_duplicates(config, workspace, corpus)


def _remove_duplicates(config: DedupConfig, workspace: Workspace, corpus: Corpus) -> Summary:
    folder = workspace.scratch / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    references = _open_references(config, folder)
    steps = steps_of(workspace.runtime)
    scan = steps.scan(
        workspace,
        corpus.shards(),
        folder / "scan",
        config.fuzzy,
        kept=references.kept,
        evaluation=references.evaluation,
    )
    _check_unchanged(config, references)
    ids = steps.id_ranks(scan.ids)
    clusters = find_clusters(
        scan.spool,
        scan.lengths,
        steps.survival_rank(scan, ids),
        exact=config.exact,
        fuzzy=config.fuzzy,
        runtime=workspace.runtime,
        folder=folder / "candidates",
        without=scan.findings["document"],
    )
    names = cluster_names(clusters.survivor, ids, scan.num_own)
    del ids
    shutil.rmtree(folder / "scan")
    _write_clusters(workspace, scan, clusters, names)
    verdicts = Verdicts(config, scan, clusters, names, references.items)
    counts, examples = _write(workspace, corpus, verdicts, folder)
    proofs = _proofs(config, workspace, corpus, counts, verdicts, references)
    return Summary(counts=counts, proofs=proofs, examples=examples)


def _open_references(config: DedupConfig, folder: Path) -> References:
    digests = {reference.name: content_digest(reference) for reference in config.against}
    kept = [(reference, files_of(reference)) for reference in config.against if isinstance(reference, KeptCorpus)]
    sets = [reference for reference in config.against if isinstance(reference, EvaluationSet)]
    items = gather_items((s, (table for file in files_of(s) for table in rows_of(file))) for s in sets)
    if not sets:
        return References(digests, kept, items, None)
    EvaluationIndex.save(folder / "evaluation", items, sets, config.fuzzy)
    return References(digests, kept, items, folder / "evaluation")


def _check_unchanged(config: DedupConfig, references: References) -> None:
    for reference in config.against:
        if content_digest(reference) != references.digests[reference.name]:
            raise SourceError(
                f"`{reference.path}`: its content changed while it was read",
                hint="let nothing write to the references of `dedup.against` during a run, then run again",
            )


def _write_clusters(workspace: Workspace, scan: Scan, clusters: Clusters, names: np.ndarray) -> None:
    """Every document of the corpus that shares its cluster, in the order of the input."""
    sizes = np.bincount(clusters.survivor, minlength=len(names))
    shared = np.flatnonzero(sizes[clusters.survivor[: scan.num_own]] > 1)
    with rows_written(workspace, CLUSTERS_NAME, CLUSTERS) as writer:
        for start in range(0, len(shared), CLUSTERS_AT_ONCE):
            rows = shared[start : start + CLUSTERS_AT_ONCE]
            columns = (scan.ids.take(pa.array(documents)) for documents in (rows, names[rows]))
            writer.write(pa.table(dict(zip(CLUSTERS.names, columns, strict=True))))


def _write(
    workspace: Workspace, corpus: Corpus, verdicts: Verdicts, folder: Path
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Writes shards, and the ledger in the order of the input, as soon as a shard's removed rows are there."""
    shards, removed = corpus.shards(), verdicts.filters != STAYS
    np.save(folder / "sides.npy", removed.astype(np.uint8))
    groups = by_shard(list_row_groups(shards))
    jobs = [
        SelectJob(
            groups.get(shard, ()),
            0,
            len(removed),
            folder / "sides.npy",
            (Output(KEPT, f"documents/{shard.name}"), Output(REMOVED, _removed_name(shard))),
            workspace.path,
        )
        for shard in shards
    ]
    selected: dict[str, Selected] = {}

    def parts() -> Iterator[tuple[Path, Path]]:
        for shard, outputs in zip(shards, select_in_order(jobs, workspace.runtime), strict=True):
            selected.update({output.entry.name: output for output in outputs})
            workspace.add(selected[f"documents/{shard.name}"].entry)
            yield workspace.path / _removed_name(shard), shard

    examples = write_ledger(workspace, parts(), verdicts)
    return _counts(verdicts, shards, selected), examples


def _removed_name(shard: Path) -> str:
    return f"{SCRATCH_NAME}/{FOLDER}/removed-{shard.name}"


def _counts(verdicts: Verdicts, shards: Sequence[Path], selected: dict[str, Selected]) -> dict[str, int]:
    removed_by = np.bincount(verdicts.filters[verdicts.filters != STAYS], minlength=len(FILTERS)).tolist()
    total, removed = len(verdicts.filters), sum(removed_by)
    kept_characters = sum(selected[f"documents/{shard.name}"].num_characters for shard in shards)
    removed_characters = sum(selected[_removed_name(shard)].num_characters for shard in shards)
    clusters = verdicts.clusters
    in_clusters = np.flatnonzero((verdicts.filters != STAYS) & (verdicts.filters != CONTAMINATION))
    return {
        "num_documents_in": total,
        "num_documents_kept": total - removed,
        "num_documents_removed": removed,
        "num_characters_in": kept_characters + removed_characters,
        "num_characters_kept": kept_characters,
        "num_characters_removed": removed_characters,
        **{f"removed_by_{FILTERS[number]}": removed_by[number] for number in _filters_of(verdicts.config)},
        "num_clusters": len(np.unique(clusters.survivor[in_clusters])),
        "num_pairs_compared": clusters.edges.num_compared,
        "num_pairs_confirmed": clusters.edges.num_edges,
    }


def _filters_of(config: DedupConfig) -> list[int]:
    kinds = {reference.kind for reference in config.against}
    return [EXACT, NEAR, *([KNOWN] if "kept" in kinds else []), *([CONTAMINATION] if "evaluation" in kinds else [])]


def _proofs(
    config: DedupConfig,
    workspace: Workspace,
    corpus: Corpus,
    counts: dict[str, int],
    verdicts: Verdicts,
    references: References,
) -> dict[str, Any]:
    proofs: dict[str, Any] = {
        "documents": reconcile("dedup", workspace, corpus.shards(), counts),
        "survivors": {"rule": SURVIVOR_RULE, **survivors_proof(workspace, counts, verdicts)},
    }
    if config.fuzzy:
        proofs["near_duplicates"] = _sketch_proof(config.fuzzy, verdicts.clusters)
    if config.against:
        proofs["against"] = [
            {"name": reference.name, "kind": reference.kind, "digest": references.digests[reference.name]}
            for reference in config.against
        ]
        proofs["num_items_too_short"] = references.items.num_too_short
    return proofs


def _sketch_proof(fuzzy: FuzzyConfig, clusters: Clusters) -> dict[str, Any]:
    return {
        "decided_by": "exact Jaccard similarity of 64-bit n-gram hashes, for every candidate pair",
        "jaccard_threshold": fuzzy.jaccard_threshold,
        "lowest_confirmed": clusters.edges.lowest,
        "expected_recall": fuzzy.recall_curve(),
    }
