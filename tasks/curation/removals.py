"""Why dedup removes a document: its verdict, its row in the ledger, and the proof that what it duplicates stays."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, which a type checker cannot see.

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.errors import ReconciliationError
from data_contracts.rows import LEDGER
from tasks.curation.clusters import Clusters
from tasks.curation.config import DedupConfig, EvaluationSet
from tasks.curation.contamination import FINDING, Items
from tasks.curation.documents import (
    LEDGER_NAME,
    RowGroup,
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
PROOF_THREADS = 8
"""More get in each other's way: on 32 cores, 16 read the ids of 5,000,000 documents twice as fast as 32."""

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
        findings = self._findings(rows[~in_cluster])
        score[~in_cluster], threshold[~in_cluster] = findings["score"], self._thresholds(findings)
        matched = _take(ids, np.where(exact, clusters.twin[rows], clusters.partner[rows]), in_cluster)
        items = pa.array([self.items.ids[item] for item in findings["item"].tolist()], pa.string())
        matched = pc.replace_with_mask(matched, pa.array(~in_cluster), items)
        how = exact.astype(np.int64)
        how[~in_cluster] = np.where(findings["is_near"], 0, 2)
        names = pa.array(FILTERS).take(pa.array(filters))
        return ledger_rows(
            removed,
            split,
            filter=names,
            score=score,
            threshold=threshold,
            reason=_reasons(names, how, _figures(score), _figures(threshold), matched),
            cluster=_take(ids, self.names[rows], in_cluster),
            kept_id=_take(ids, clusters.survivor[rows], in_cluster),
            matched_id=matched,
        )

    def _findings(self, rows: np.ndarray) -> np.ndarray:
        findings = self.scan.findings
        return findings[np.searchsorted(findings["document"], rows)] if len(rows) else np.zeros(0, FINDING)

    def _thresholds(self, findings: np.ndarray) -> np.ndarray:
        sets = [reference for reference in self.config.against if isinstance(reference, EvaluationSet)]
        minima = np.array([config.min_containment for config in sets], dtype=np.float64)
        jaccard = self.config.fuzzy.jaccard_threshold if self.config.fuzzy else 1.0
        return np.where(findings["is_near"], jaccard, minima[self.items.sets[findings["item"]]])


def _take(ids: pa.LargeStringArray, documents: np.ndarray, where: np.ndarray) -> pa.StringArray:
    """(documents,), null where `where` is not."""
    return ids.take(pa.array(documents, mask=~where)).cast(pa.string())


def _figures(values: np.ndarray) -> pa.StringArray:
    """(values,) each with six digits."""
    encoded = pa.array(values).dictionary_encode()
    return pa.array([f"{value:.6g}" for value in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)


def _reasons(
    names: pa.Array, how: np.ndarray, scores: pa.Array, thresholds: pa.Array, others: pa.Array
) -> pa.StringArray:
    """(rows,) why each went. how: (rows,) 0 for a similar document, 1 for an equal one, 2 for n-grams that it holds."""
    bound = (", at or above ", thresholds, "")
    similar = pc.binary_join_element_wise(names, ": Jaccard similarity ", scores, " with ", others, *bound, "")
    equal = pc.binary_join_element_wise(names, ": same comparison text as ", others, "")
    holds = pc.binary_join_element_wise(names, ": holds ", scores, " of the n-grams of ", others, *bound, "")
    return pc.choose(pa.array(how), similar, equal, holds)


def write_ledger(workspace: Workspace, parts: Iterable[tuple[Path, Path]], verdicts: Verdicts) -> list[dict[str, Any]]:
    """Writes `ledger.parquet`; the first examples of each filter.

    parts: files with the DOCUMENTS rows that were removed, each with the shard they stood in; a part is asked for when
    all before it are written.
    """
    examples, waiting = [], _entries(parts, verdicts)
    # The next rows are gathered while these are packed.
    with rows_written(workspace, LEDGER_NAME, LEDGER) as ledger, ThreadPoolExecutor(1) as beside:
        gathered = beside.submit(copy_context().run, next, waiting, None)
        while (entries := gathered.result()) is not None:
            gathered = beside.submit(copy_context().run, next, waiting, None)
            ledger.write(entries)
            examples = first_examples([*examples, *examples_of(entries)])
    return examples


def _entries(parts: Iterable[tuple[Path, Path]], verdicts: Verdicts) -> Iterator[pa.Table]:
    removed, start = np.flatnonzero(verdicts.filters != STAYS), 0
    for part, shard in parts:
        for table in row_groups(part):
            yield verdicts.ledger(table, removed[start : start + table.num_rows], split_of(shard))
            start += table.num_rows


def survivors_proof(workspace: Workspace, counts: dict[str, int], verdicts: Verdicts) -> dict[str, int]:
    """Read back from disk: every removed document names a kept one or a reference, and no removed one is kept.

    Raises ReconciliationError otherwise.
    """
    index, num_own = verdicts.scan.index, verdicts.scan.num_own
    kept = _kept_on_disk(workspace, verdicts)
    known, items = IdIndex(verdicts.scan.ids.slice(num_own)), set(verdicts.items.ids)
    removed, start = np.flatnonzero(verdicts.filters != STAYS), 0
    by_corpus, by_reference, orphans, doubles = 0, 0, 0, 0
    for rows in row_groups(workspace.path / LEDGER_NAME, ["id", "filter", "kept_id", "matched_id"]):
        expected = removed[start : start + rows.num_rows]
        start += rows.num_rows
        filters = rows["filter"].to_numpy()
        of_corpus, of_known = np.isin(filters, FILTERS[:KNOWN]), filters == FILTERS[KNOWN]
        survivors = verdicts.clusters.survivor[expected][of_corpus[: len(expected)]]
        survivors = kept[index.find(rows["kept_id"].filter(pa.array(of_corpus)), survivors % num_own)]
        references = known.find(rows["kept_id"].filter(pa.array(of_known))) >= 0
        contaminated = rows["matched_id"].filter(pa.array(~of_corpus & ~of_known)).to_pylist()
        doubles += int(np.count_nonzero(kept[index.find(rows["id"], expected)]))
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


def _kept_on_disk(workspace: Workspace, verdicts: Verdicts) -> np.ndarray:
    """(documents of the corpus + 1,) bool: those whose ids the written shards hold.

    One more than there are: an unknown id is found at -1, which is never kept.
    """
    index, expected = verdicts.scan.index, np.flatnonzero(verdicts.filters == STAYS)
    kept = np.zeros(verdicts.scan.num_own + 1, dtype=bool)

    def found(group: RowGroup) -> np.ndarray:
        ids = group.read(["id"])["id"]
        return index.find(ids, expected[group.start : group.start + group.num_rows])

    groups = list_row_groups(sorted((workspace.path / "documents").glob("*.parquet")))
    with ThreadPoolExecutor(min(workspace.runtime.workers, PROOF_THREADS)) as pool:
        for rows in pool.map(found, groups):
            kept[rows] = True
    return kept
