"""Why dedup removes a document: its verdict, its row in the ledger, and the proof that what it duplicates stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_contracts.errors import ReconciliationError
from data_contracts.rows import LEDGER
from tasks.curation.clusters import Clusters
from tasks.curation.config import DedupConfig, EvaluationSet
from tasks.curation.contamination import FINDING, Items
from tasks.curation.documents import (
    LEDGER_NAME,
    examples_of,
    first_examples,
    ledger_rows,
    list_row_groups,
    row_groups,
    rows_written,
    split_of,
)
from tasks.curation.identifiers import IdIndex
from tasks.curation.scanning import Scan
from tasks.workspace import Workspace

STAYS, EXACT, NEAR, KNOWN, CONTAMINATION = -1, 0, 1, 2, 3
FILTERS = ("exact_duplicate", "near_duplicate", "known_duplicate", "contamination")


class Verdicts:
    """What becomes of every document of the corpus. filters: (documents,) int8 place in FILTERS, or STAYS."""

    def __init__(self, config: DedupConfig, scan: Scan, clusters: Clusters, names: np.ndarray, items: Items) -> None:
        self.config, self.scan, self.clusters, self.names, self.items = config, scan, clusters, names, items
        own = np.arange(scan.num_own)
        survivor, twin = clusters.survivor[: scan.num_own], clusters.twin[: scan.num_own]
        self.filters = np.full(scan.num_own, STAYS, dtype=np.int8)
        self.filters[survivor != own] = NEAR
        self.filters[(survivor != own) & (twin != own)] = EXACT
        self.filters[survivor >= scan.num_own] = KNOWN
        self.filters[scan.findings["document"]] = CONTAMINATION

    def ledger(self, removed: pa.Table, rows: np.ndarray, split: str) -> pa.Table:
        """LEDGER rows of removed documents. removed: DOCUMENTS rows; rows: (rows,) their numbers."""
        filters, clusters, ids = self.filters[rows], self.clusters, self.scan.ids
        in_cluster = filters != CONTAMINATION
        exact = clusters.twin[rows] != rows
        score = np.where(exact, 1.0, clusters.similarity[rows])
        threshold = np.where(exact, 1.0, self.config.fuzzy.jaccard_threshold if self.config.fuzzy else 1.0)
        matched = _take(ids, np.where(exact, clusters.twin[rows], clusters.partner[rows]), in_cluster)
        findings = self._findings(rows[~in_cluster])
        score[~in_cluster], threshold[~in_cluster] = findings["score"], self._thresholds(findings)
        matched[~in_cluster] = [self.items.ids[item] for item in findings["item"].tolist()]
        how = exact.astype(np.int64)
        how[~in_cluster] = np.where(findings["is_near"], 0, 2)
        names = np.array(FILTERS, dtype=object)[filters]
        return ledger_rows(
            removed,
            split,
            filter=names,
            score=score,
            threshold=threshold,
            reason=pa.array(map(_reason, names, how.tolist(), score, threshold, matched), pa.string()),
            cluster=pa.array(_take(ids, self.names[rows], in_cluster), pa.string()),
            kept_id=pa.array(_take(ids, clusters.survivor[rows], in_cluster), pa.string()),
            matched_id=pa.array(matched, pa.string()),
        )

    def _findings(self, rows: np.ndarray) -> np.ndarray:
        findings = self.scan.findings
        return findings[np.searchsorted(findings["document"], rows)] if len(rows) else np.zeros(0, FINDING)

    def _thresholds(self, findings: np.ndarray) -> np.ndarray:
        sets = [reference for reference in self.config.against if isinstance(reference, EvaluationSet)]
        minima = np.array([config.min_containment for config in sets], dtype=np.float64)
        jaccard = self.config.fuzzy.jaccard_threshold if self.config.fuzzy else 1.0
        return np.where(findings["is_near"], jaccard, minima[self.items.sets[findings["item"]]])


def _take(ids: pa.LargeStringArray, documents: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(documents,) str, None where `where` is not."""
    return ids.take(pa.array(documents, mask=~where)).to_numpy(zero_copy_only=False)


def _reason(name: str, how: int, score: float, threshold: float, other: str) -> str:
    if how == 2:
        return f"{name}: holds {score:.6g} of the n-grams of {other}, at or above {threshold:.6g}"
    if how == 1:
        return f"{name}: same comparison text as {other}"
    return f"{name}: Jaccard similarity {score:.6g} with {other}, at or above {threshold:.6g}"


def write_ledger(workspace: Workspace, parts: Sequence[tuple[Path, Path]], verdicts: Verdicts) -> list[dict[str, Any]]:
    """Writes `ledger.parquet`; the first examples of each filter.

    parts: files with the DOCUMENTS rows that were removed, each with the shard they stood in.
    """
    removed, start, examples = np.flatnonzero(verdicts.filters != STAYS), 0, []
    with rows_written(workspace, LEDGER_NAME, LEDGER) as ledger:
        for part, shard in parts:
            for table in row_groups(part):
                entries = verdicts.ledger(table, removed[start : start + table.num_rows], split_of(shard))
                start += table.num_rows
                ledger.write(entries)
                examples = first_examples([*examples, *examples_of(entries)])
    return examples


def survivors_proof(workspace: Workspace, counts: dict[str, int], verdicts: Verdicts) -> dict[str, int]:
    """Read back from disk: every removed document names a kept one or a reference, and no removed one is kept.

    Raises ReconciliationError otherwise.
    """
    index, num_own = verdicts.scan.index, verdicts.scan.num_own
    # One more than there are: an unknown id is found at -1, which is never kept.
    kept = np.zeros(num_own + 1, dtype=bool)
    for group in list_row_groups(sorted((workspace.path / "documents").glob("*.parquet"))):
        kept[index.find(group.read(["id"])["id"])] = True
    known, items = IdIndex(verdicts.scan.ids.slice(num_own)), set(verdicts.items.ids)
    by_corpus, by_reference, orphans, doubles = 0, 0, 0, 0
    for rows in row_groups(workspace.path / LEDGER_NAME, ["id", "filter", "kept_id", "matched_id"]):
        filters = rows["filter"].to_numpy()
        of_corpus, of_known = np.isin(filters, FILTERS[:KNOWN]), filters == FILTERS[KNOWN]
        survivors = kept[index.find(rows["kept_id"].filter(pa.array(of_corpus)))]
        references = known.find(rows["kept_id"].filter(pa.array(of_known))) >= 0
        contaminated = rows["matched_id"].filter(pa.array(~of_corpus & ~of_known)).to_pylist()
        doubles += int(np.count_nonzero(kept[index.find(rows["id"])]))
        by_corpus += int(np.count_nonzero(survivors))
        by_reference += int(np.count_nonzero(references)) + sum(item in items for item in contaminated)
        orphans += rows.num_rows
    orphans -= by_corpus + by_reference
    if orphans or doubles or kept[-1] or np.count_nonzero(kept) != counts["num_documents_kept"]:
        raise ReconciliationError(
            f"`dedup`: found {orphans} removed documents without a kept survivor and {doubles} both kept and removed",
            hint="a fault of this stage; report it with the corpus that shows it",
        )
    proof = {"num_removed_with_kept_survivor": by_corpus, "num_both_kept_and_removed": doubles}
    return proof | ({"num_removed_with_reference": by_reference} if verdicts.config.against else {})
