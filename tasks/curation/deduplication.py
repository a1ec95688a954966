"""The stage dedup: one document of each duplicate cluster stays, the others go to the ledger."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, which a type checker cannot see.
from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.artifacts import Corpus
from data_contracts.errors import ReconciliationError
from data_contracts.manifest import Summary
from data_contracts.rows import DOCUMENTS, LEDGER
from tasks.curation.clusters import Clusters, find_clusters, fingerprint
from tasks.curation.config import DedupConfig
from tasks.curation.documents import (
    LEDGER_NAME,
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

CLUSTERS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("cluster", pa.string(), nullable=False),  # smallest id of the cluster
    ]
)
CLUSTERS_NAME = "clusters.parquet"
SURVIVOR_RULE = "shipped validation first, then the longest comparison text, then the smallest id"


def remove_duplicates(config: DedupConfig, workspace: Workspace, corpus: Corpus) -> Summary:
    """Writes the shards of `corpus` without duplicates, `ledger.parquet`, and `clusters.parquet` of all clusters.

    Which document of a cluster stays: SURVIVOR_RULE. Raises DataError for an id that occurs twice, and
    ReconciliationError unless documents in = kept + removed and the survivor of every removed one is kept.
    """
    shards, threads = corpus.shards(), workspace.runtime.workers
    documents = load(shards)
    total = len(documents.ids)
    workspace.progress(0, total)
    prints = fingerprint(
        documents.texts, config.fuzzy, threads=threads, progress=lambda done: workspace.progress(done, total)
    )
    rank = survival_rank(documents, prints.lengths)
    clusters = find_clusters(documents.texts, prints, rank, exact=config.exact, fuzzy=config.fuzzy, threads=threads)
    names = cluster_ids(clusters.survivor, documents.ids)
    _write_clusters(workspace, documents, clusters.survivor, names)
    counts, examples = _write(config, workspace, corpus, documents, clusters, names)
    return Summary(counts=counts, proofs=_proofs(config, workspace, corpus, counts, clusters), examples=examples)


def survival_rank(documents: Loaded, lengths: np.ndarray) -> np.ndarray:
    """(documents,) int64: the smaller, the sooner a document stays; by SURVIVOR_RULE, ids by code points."""
    keys = pa.table({"train": ~documents.shipped_validation, "shorter": -lengths, "id": documents.ids})
    order = pc.sort_indices(keys, [("train", "ascending"), ("shorter", "ascending"), ("id", "ascending")])
    rank = np.empty(len(lengths), dtype=np.int64)
    rank[order.to_numpy()] = np.arange(len(lengths))
    return rank


def cluster_ids(survivor: np.ndarray, ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """(documents,) the smallest id of each document's cluster."""
    order = pc.sort_indices(ids).to_numpy()
    smallest = np.empty(len(order), dtype=np.int64)
    # Written from the largest id to the smallest: what is written last stays.
    smallest[survivor[order[::-1]]] = order[::-1]
    return ids.take(pa.array(smallest[survivor]))


def _write_clusters(workspace: Workspace, documents: Loaded, survivor: np.ndarray, names: pa.ChunkedArray) -> None:
    shared = pa.array(np.bincount(survivor, minlength=len(survivor))[survivor] > 1)
    with rows_written(workspace, CLUSTERS_NAME, CLUSTERS) as writer:
        writer.write(pa.table({"id": documents.ids, "cluster": names}).filter(shared))


def _write(
    config: DedupConfig,
    workspace: Workspace,
    corpus: Corpus,
    documents: Loaded,
    clusters: Clusters,
    names: pa.ChunkedArray,
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Writes shards and ledger in the order of the input."""
    stays = clusters.survivor == np.arange(len(clusters.survivor))
    counts = _counts(clusters, stays, documents)
    start, examples = 0, []
    with rows_written(workspace, LEDGER_NAME, LEDGER) as ledger:
        for shard in corpus.shards():
            with rows_written(workspace, f"documents/{shard.name}", DOCUMENTS) as kept:
                for table in row_groups(shard):
                    rows = np.arange(start, start + table.num_rows)
                    start += table.num_rows
                    kept.write(table.filter(pa.array(stays[rows])))
                    gone = rows[~stays[rows]]
                    removed = table.filter(pa.array(~stays[rows]))
                    entries = _ledger(config, removed, gone, split_of(shard), documents, clusters, names)
                    ledger.write(entries)
                    examples = first_examples([*examples, *examples_of(entries)])
    return counts, examples


def _ledger(
    config: DedupConfig,
    removed: pa.Table,
    rows: np.ndarray,
    split: str,
    documents: Loaded,
    clusters: Clusters,
    names: pa.ChunkedArray,
) -> pa.Table:
    exact = clusters.twin[rows] != rows
    matched = np.where(exact, clusters.twin[rows], clusters.partner[rows])
    score = np.where(exact, 1.0, clusters.similarity[rows])
    threshold = np.where(exact, 1.0, config.fuzzy.jaccard_threshold if config.fuzzy else 1.0)
    matched_ids = documents.ids.take(pa.array(matched))
    reasons = [
        f"exact_duplicate: same comparison text as {other}"
        if equal
        else f"near_duplicate: Jaccard similarity {s:.6g} with {other}, at or above {t:.6g}"
        for equal, s, t, other in zip(exact, score, threshold, matched_ids.to_pylist(), strict=True)
    ]
    return ledger_rows(
        removed,
        split,
        filter=np.where(exact, "exact_duplicate", "near_duplicate").astype(object),
        score=score,
        threshold=threshold,
        reason=pa.array(reasons, pa.string()),
        cluster=names.take(pa.array(rows)),
        kept_id=documents.ids.take(pa.array(clusters.survivor[rows])),
        matched_id=matched_ids,
    )


def _counts(clusters: Clusters, stays: np.ndarray, documents: Loaded) -> dict[str, int]:
    exact = clusters.twin != np.arange(len(stays))
    characters, kept = num_characters(documents.texts), num_characters(documents.texts.filter(pa.array(stays)))
    return {
        "num_documents_in": len(stays),
        "num_documents_kept": int(np.count_nonzero(stays)),
        "num_documents_removed": int(np.count_nonzero(~stays)),
        "num_characters_in": characters,
        "num_characters_kept": kept,
        "num_characters_removed": characters - kept,
        "removed_by_exact_duplicate": int(np.count_nonzero(exact & ~stays)),
        "removed_by_near_duplicate": int(np.count_nonzero(~exact & ~stays)),
        "num_clusters": len(np.unique(clusters.survivor[~stays])),
        "num_pairs_compared": clusters.edges.num_compared,
        "num_pairs_confirmed": len(clusters.edges.pairs),
    }


def _proofs(
    config: DedupConfig, workspace: Workspace, corpus: Corpus, counts: dict[str, int], clusters: Clusters
) -> dict[str, Any]:
    proofs: dict[str, Any] = {
        "documents": reconcile("dedup", workspace, corpus.shards(), counts),
        "survivors": {"rule": SURVIVOR_RULE, **_survivors(workspace, counts)},
    }
    if config.fuzzy:
        threshold = config.fuzzy.jaccard_threshold
        proofs["near_duplicates"] = {
            "decided_by": "exact Jaccard similarity of 64-bit n-gram hashes, for every candidate pair",
            "jaccard_threshold": threshold,
            "lowest_confirmed": float(clusters.edges.jaccard.min()) if len(clusters.edges.jaccard) else None,
            "expected_recall": {f"{j:.2f}": config.fuzzy.recall_at(j) for j in (threshold, (1 + threshold) / 2)},
        }
    return proofs


def _survivors(workspace: Workspace, counts: dict[str, int]) -> dict[str, int]:
    """Read back from disk: every removed document names a kept one, and no removed one is kept.

    Raises ReconciliationError otherwise.
    """
    shards = sorted((workspace.path / "documents").glob("*.parquet"))
    kept = pa.chunked_array([c for s in shards for g in row_groups(s, ["id"]) for c in g["id"].chunks], pa.string())
    groups = list(row_groups(workspace.path / LEDGER_NAME, ["id", "kept_id"]))
    removed = pa.concat_tables(groups) if groups else LEDGER.empty_table()
    orphans = removed.num_rows - (pc.sum(pc.is_in(removed["kept_id"], kept)).as_py() or 0)
    doubles = pc.sum(pc.is_in(removed["id"], kept)).as_py() or 0
    if orphans or doubles or len(kept) != counts["num_documents_kept"]:
        raise ReconciliationError(
            f"`dedup`: found {orphans} removed documents without a kept survivor and {doubles} both kept and removed",
            hint="a fault of this stage; report it with the corpus that shows it",
        )
    return {"num_removed_with_kept_survivor": removed.num_rows, "num_both_kept_and_removed": doubles}
