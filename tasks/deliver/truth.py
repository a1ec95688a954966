"""Precision and recall of curation where the truth is known: ledgers joined with the faults the sample planted."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.deliver.lineage import Lineage
from tasks.deliver.removals import LEDGER_ROLES

CLEAN = "none"
HARMLESS = (CLEAN, "distant_variant")
"""Kinds of documents that must stay."""

DUPLICATES = ("exact_duplicate", "near_duplicate")
REACHED = (None, *DUPLICATES)
"""Outcomes of documents that dedup saw."""

QUARANTINE = "quarantine"

EXPECTED: dict[str, tuple[str, ...]] = {
    "exact_duplicate": ("exact_duplicate",),
    "near_duplicate": ("near_duplicate",),
    "english": ("language",),
    "chinese": ("language",),
    "korean": ("language",),
    "stub": ("length",),
    "broken_line": (QUARANTINE,),
}
"""What should remove a kind of fault; a kind that is not listed may be removed by any filter."""


@dataclass(frozen=True)
class Truth:
    """A document as the generator knows it. outcome: the filter that removed it, `quarantine`, or None if it stays."""

    id: str
    fault: str
    cluster: str
    outcome: str | None


def curation_truth(lineage: Lineage) -> dict[str, Any] | None:
    """Recall of each planted fault and precision of each filter; None for a corpus whose truth nobody knows.

    `faults`: per kind num_planted, num_caught (removed by what should remove it), num_removed_otherwise, num_kept and
    recall. `kept`: per kind that must stay num_documents, num_removed, removed_by. `filters`: per filter num_removed,
    num_right and precision. A document that the draw left out is not counted.
    """
    path = lineage["raw"].artifact.path / "truth" / "documents.jsonl"
    if not path.is_file():
        return None
    documents = _documents(path, lineage)
    kinds: dict[str, list[Truth]] = defaultdict(list)
    for document in documents:
        kinds[document.fault].append(document)
    right = _right_duplicates(documents)
    faults = {kind: _fault(kind, kinds[kind], documents, right) for kind in sorted(kinds) if kind not in HARMLESS}
    return {
        "faults": faults,
        "kept": {kind: _must_stay(kinds[kind]) for kind in HARMLESS if kind in kinds},
        "filters": _filters(documents, right),
    }


def _documents(path: Path, lineage: Lineage) -> list[Truth]:
    removed = _outcomes(lineage)
    drawn = _ids(lineage["raw"].artifact.path)
    drew_all = not lineage.count("raw", "num_documents_unsampled")
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        identifier, fault = str(row.get("id")), row.get("fault") or CLEAN
        if identifier in drawn:
            outcome = removed.get(identifier)
        elif drew_all or EXPECTED.get(fault) == (QUARANTINE,):
            outcome = QUARANTINE
        else:
            continue
        found.append(Truth(identifier, fault, str(row.get("cluster") or identifier), outcome))
    return found


def _outcomes(lineage: Lineage) -> dict[str, str]:
    """Which filter removed a document, by id."""
    removed: dict[str, str] = {}
    for role in LEDGER_ROLES:
        ledger = lineage[role].artifact.path / "ledger.parquet"
        if ledger.is_file():
            table = pq.read_table(ledger, columns=["id", "filter"])
            removed.update(zip(table["id"].to_pylist(), table["filter"].to_pylist(), strict=True))
    return removed


def _ids(corpus: Path) -> set[str]:
    shards = sorted((corpus / "documents").glob("*.parquet"))
    return {identifier for shard in shards for identifier in pq.read_table(shard, columns=["id"])["id"].to_pylist()}


def _fault(kind: str, planted: list[Truth], documents: list[Truth], right: Counter[str]) -> dict[str, Any]:
    """Figures of one kind; what filters rightly removed of it is added to `right`, by filter."""
    if kind in DUPLICATES:
        planted, num_caught = _caught_duplicates(planted, documents)
        otherwise = 0
    else:
        expected = EXPECTED.get(kind)
        num_caught = sum(d.outcome is not None and (expected is None or d.outcome in expected) for d in planted)
        right.update(d.outcome for d in planted if d.outcome is not None)
        otherwise = sum(d.outcome is not None for d in planted) - num_caught
    return {
        "num_planted": len(planted),
        "num_caught": num_caught,
        "num_removed_otherwise": otherwise,
        "num_kept": len(planted) - num_caught - otherwise,
        "recall": num_caught / len(planted) if planted else None,
    }


def _caught_duplicates(planted: list[Truth], documents: list[Truth]) -> tuple[list[Truth], int]:
    """The planted copies that had a twin when dedup saw them, and how many of these no longer stand beside one.

    A copy is caught when dedup removed it, or when it is the one of its cluster that stays: which member stays is
    dedup's choice. A copy whose original an earlier stage removed is no duplicate any more.
    """
    members = _clusters(documents)
    twins = [d for d in planted if d.outcome in REACHED and len(members[d.cluster]) > 1]
    alone = {c for c, group in members.items() if sum(d.outcome is None for d in group) == 1}
    return twins, sum(d.outcome is not None or d.cluster in alone for d in twins)


def _clusters(documents: list[Truth]) -> dict[str, list[Truth]]:
    """Members of each duplicate cluster that reached dedup."""
    members: dict[str, list[Truth]] = defaultdict(list)
    for document in documents:
        if document.fault in (CLEAN, *DUPLICATES) and document.outcome in REACHED:
            members[document.cluster].append(document)
    return members


def _right_duplicates(documents: list[Truth]) -> Counter[str]:
    """By filter, how many removed documents really had a twin."""
    groups = (group for group in _clusters(documents).values() if len(group) > 1)
    return Counter(d.outcome for group in groups for d in group if d.outcome is not None)


def _must_stay(documents: list[Truth]) -> dict[str, Any]:
    removed = Counter(document.outcome for document in documents if document.outcome not in (None, *DUPLICATES))
    if documents[0].fault != CLEAN:
        # An original may rightly go instead of its copy; a distant variant may not.
        removed = Counter(document.outcome for document in documents if document.outcome is not None)
    return {
        "num_documents": len(documents),
        "num_removed": sum(removed.values()),
        "removed_by": dict(sorted(removed.items(), key=lambda item: str(item[0]))),
    }


def _filters(documents: list[Truth], right: Counter[str]) -> dict[str, Any]:
    removed = Counter(document.outcome for document in documents if document.outcome is not None)
    return {
        name: {
            "num_removed": count,
            "num_right": min(count, right[name]),
            "precision": min(count, right[name]) / count,
        }
        for name, count in sorted(removed.items())
    }
