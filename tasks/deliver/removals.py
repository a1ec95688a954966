"""Why documents were removed: figures and borderline examples read from the ledgers, text only where it is shown."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.deliver.lineage import Lineage

EXAMPLE_COLUMNS = ["id", "filter", "score", "threshold", "reason", "text", "source", "kept_id", "matched_id"]
LEDGER_ROLES = ("filtered", "unique", "corpus")


@dataclass(frozen=True)
class Removal:
    """One filter: how many documents it removed, and those whose score came nearest to its bound."""

    role: str
    title: str
    filter: str
    count: int
    share: float
    examples: tuple[dict[str, Any], ...]


def removals(lineage: Lineage, num_examples: int) -> list[Removal]:
    """Every filter that removed something, stage by stage, the largest first."""
    result = []
    for role in LEDGER_ROLES:
        step, ledger = lineage[role], lineage[role].artifact.path / "ledger.parquet"
        if not ledger.is_file():
            continue
        found = _scan(ledger, num_examples)
        num_in = step.counts.get("num_documents_in") or sum(count for count, _ in found.values())
        rows = _rows(ledger, sorted({row for _, rows in found.values() for row in rows}))
        for name, (count, places) in sorted(found.items(), key=lambda item: (-item[1][0], item[0])):
            examples = tuple(rows[place] for place in places)
            result.append(Removal(role, step.title, name, count, count / max(1, num_in), examples))
    return result


def quarantine(lineage: Lineage, num_examples: int) -> list[dict[str, Any]]:
    """The first quarantined lines with their raw bytes as text."""
    path = lineage["raw"].artifact.path / "quarantine.parquet"
    if not path.is_file() or not num_examples:
        return []
    with pq.ParquetFile(path) as file:
        batch = next(file.iter_batches(batch_size=num_examples), None)
    rows = batch.to_pylist() if batch is not None else []
    return [{**row, "raw": row["raw"].decode("utf-8", errors="replace")} for row in rows]


def _scan(ledger: Path, num_examples: int) -> dict[str, tuple[int, list[int]]]:
    """Per filter the number of rows and the row numbers of its examples, best first."""
    counts: dict[str, int] = {}
    nearest: dict[str, list[tuple[float, int]]] = {}
    row = 0
    with pq.ParquetFile(ledger) as file:
        for batch in file.iter_batches(columns=["filter", "score", "threshold"]):
            columns = (batch.column(name).to_pylist() for name in ("filter", "score", "threshold"))
            for name, score, threshold in zip(*columns, strict=True):
                counts[name] = counts.get(name, 0) + 1
                heap = nearest.setdefault(name, [])
                if num_examples:
                    # A heap of the largest negated distances: its smallest item is the worst example so far.
                    push = heapq.heappush if len(heap) < num_examples else heapq.heappushpop
                    push(heap, (-abs(score - threshold), -row))
                row += 1
    return {name: (counts[name], [-place for _, place in sorted(heap, reverse=True)]) for name, heap in nearest.items()}


def _rows(ledger: Path, wanted: list[int]) -> dict[int, dict[str, Any]]:
    """Rows of a ledger by number, from the row groups that hold them and no others."""
    found: dict[int, dict[str, Any]] = {}
    start = 0
    with pq.ParquetFile(ledger) as file:
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            places = [row for row in wanted if start <= row < stop]
            if places:
                table = file.read_row_group(group, columns=EXAMPLE_COLUMNS)
                picked = table.take(pa.array([row - start for row in places])).to_pylist()
                found.update(zip(places, picked, strict=True))
            start = stop
    return found
