"""Reading and writing of document and ledger rows, and the proof that none was lost between the two."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, which a type checker cannot see.
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_contracts.errors import ReconciliationError
from data_contracts.rows import LEDGER, ROWS_PER_GROUP
from tasks.workspace import Workspace

EXCERPT_CHARACTERS = 200
EXAMPLES_PER_FILTER = 3
LEDGER_NAME = "ledger.parquet"


class GroupWriter:
    """Writes rows in groups of ROWS_PER_GROUP, so that the bytes do not depend on how the rows arrived."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0

    def write(self, table: pa.Table) -> None:
        """Takes rows; whole groups of them reach the file at once, the rest at `finish`."""
        if not table.num_rows:
            return
        self._waiting.append(table.select(self._schema.names).cast(self._schema))
        self._num_waiting += table.num_rows
        while self._num_waiting >= ROWS_PER_GROUP:
            rows = pa.concat_tables(self._waiting)
            self._write_group(rows.slice(0, ROWS_PER_GROUP))
            self._num_waiting -= ROWS_PER_GROUP
            self._waiting = [rows.slice(ROWS_PER_GROUP)] if self._num_waiting else []

    def finish(self) -> None:
        if self._num_waiting:
            self._write_group(pa.concat_tables(self._waiting))
        self._waiting, self._num_waiting = [], 0

    def _write_group(self, rows: pa.Table) -> None:
        # One chunk per column: parquet pages end where chunks do.
        self._writer.write_table(rows.combine_chunks(), row_group_size=ROWS_PER_GROUP)


@contextmanager
def rows_written(workspace: Workspace, name: str, schema: pa.Schema) -> Iterator[GroupWriter]:
    """A parquet file of the artifact that takes rows in any portions."""
    with workspace.parquet(name, schema) as writer:
        rows = GroupWriter(writer, schema)
        yield rows
        rows.finish()


def split_of(shard: Path) -> str:
    """The split that a shard's name begins with: `train` of `train-00000.parquet`."""
    return shard.stem.rpartition("-")[0]


def num_rows(paths: Iterable[Path]) -> int:
    """Rows of parquet files by their footers."""
    return sum(pq.read_metadata(path).num_rows for path in paths)


def num_bytes_of(paths: Iterable[Path]) -> int:
    """Bytes of parquet files once they are unpacked, by their footers."""
    footers = [pq.read_metadata(path) for path in paths]
    return sum(footer.row_group(group).total_byte_size for footer in footers for group in range(footer.num_row_groups))


def row_groups(shard: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of a shard, one at a time."""
    with pq.ParquetFile(shard) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=list(columns) if columns else None)


def num_characters(texts: pa.Array | pa.ChunkedArray) -> int:
    """Unicode code points of all texts together."""
    return pc.sum(pc.utf8_length(texts)).as_py() or 0


class RowGroup(NamedTuple):
    """A row group of a shard. start: number of its first document among all; num_bytes: uncompressed."""

    path: Path
    group: int
    start: int
    num_rows: int
    num_bytes: int

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        with pq.ParquetFile(self.path) as file:
            return file.read_row_group(self.group, columns=list(columns) if columns else None)


def list_row_groups(shards: Iterable[Path]) -> list[RowGroup]:
    """The row groups of all shards in order, by their footers."""
    groups, start = [], 0
    for shard in shards:
        footer = pq.read_metadata(shard)
        for index in range(footer.num_row_groups):
            group = footer.row_group(index)
            groups.append(RowGroup(shard, index, start, group.num_rows, group.total_byte_size))
            start += group.num_rows
    return groups


def by_shard(groups: Iterable[RowGroup]) -> dict[Path, tuple[RowGroup, ...]]:
    """The row groups of each shard that has any; groups: those of a shard stand together."""
    return {path: tuple(own) for path, own in groupby(groups, key=lambda group: group.path)}


def ledger_rows(removed: pa.Table, split: str | pa.Array, **columns: Any) -> pa.Table:
    """LEDGER rows of removed documents.

    removed: DOCUMENTS rows; split: one for all of them, or (rows,); columns: the other LEDGER columns, (rows,) each;
    cluster, kept_id and matched_id may be left out and are null then.
    """
    size = removed.num_rows
    columns |= {name: removed[name] for name in ("id", "text", "source")}
    columns["split"] = pa.repeat(split, size) if isinstance(split, str) else split
    absent = {field.name: pa.nulls(size, field.type) for field in LEDGER if field.name not in columns}
    return pa.table({name: (columns | absent)[name] for name in LEDGER.names}).cast(LEDGER)


def examples_of(ledger: pa.Table) -> list[dict[str, Any]]:
    """The first rows of each filter in a ledger, with the beginning of their texts."""
    names = ledger["filter"].to_numpy()
    examples = []
    for name in dict.fromkeys(names):
        for row in ledger.take(np.flatnonzero(names == name)[:EXAMPLES_PER_FILTER]).to_pylist():
            example = {key: row[key] for key in ("filter", "id", "score", "threshold", "reason")}
            example |= {key: row[key] for key in ("kept_id", "matched_id") if row[key] is not None}
            examples.append(example | {"excerpt": row["text"][:EXCERPT_CHARACTERS]})
    return examples


def first_examples(examples: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first few of each filter, grouped by filter."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for example in examples:
        group = grouped.setdefault(example["filter"], [])
        if len(group) < EXAMPLES_PER_FILTER:
            group.append(example)
    return [example for group in grouped.values() for example in group]


def reconcile(stage: str, workspace: Workspace, inputs: Sequence[Path], counts: dict[str, int]) -> dict[str, Any]:
    """The proof that documents in = kept + removed, counted again from the footers of what lies on disk.

    Raises ReconciliationError where the files, or the stage's own `counts`, differ.
    """
    found = {
        "num_documents_in": num_rows(inputs),
        "num_documents_kept": num_rows((workspace.path / "documents").glob("*.parquet")),
        "num_documents_removed": num_rows([workspace.path / LEDGER_NAME]),
    }
    told = {name: counts[name] for name in found}
    by_filter = sum(value for name, value in counts.items() if name.startswith("removed_by_"))
    balanced = found["num_documents_in"] == found["num_documents_kept"] + found["num_documents_removed"]
    if found != told or not balanced or by_filter != found["num_documents_removed"]:
        raise ReconciliationError(
            f"`{stage}`: found {found} in the files and {told} while working ({by_filter} by filter), expected in = "
            "kept + removed and both equal",
            hint="a shard was changed or lost while the stage ran; run it again, and report it if it stays",
        )
    return {"checked": "in = kept + removed, by the footers of all files", **found}
