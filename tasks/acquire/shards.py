"""One chunk of a source file to its output shard, its rows of quarantine and the hashes of its ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.files import FileEntry, HashingFile
from data_contracts.rows import DOCUMENTS, PARQUET_OPTIONS, QUARANTINE, ROWS_PER_GROUP
from tasks.acquire.records import Understood

BYTES_PER_GROUP = 256 << 20
"""A row group ends with the document that reaches it, so that 8,192 huge documents are never in memory together."""


class ChunkResult(BaseModel):
    """What became of one chunk of a source file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chunk: int = Field(description="Number of the chunk in its file, from 0.")
    shard: FileEntry | None = Field(default=None, description="Where its documents are; none if it has none.")
    quarantine: str = Field(default="", description="Where its unreadable lines are; empty if it has none.")
    num_lines: int = Field(default=0, description="Lines of the chunk.")
    num_blank: int = Field(default=0, description="Lines that hold nothing.")
    num_documents: int = Field(default=0, description="Rows that were written.")
    num_quarantined: int = Field(default=0, description="Lines that are no document.")
    num_characters: int = Field(default=0, description="Code points of the texts as written.")


def hashes_path(shard: Path) -> Path:
    """Where the (documents,) uint64 hashes of a shard's ids lie."""
    return shard.with_suffix(".npy")


def id_hash(identifier: str, seed: int) -> int:
    """Where an id falls in a draw that knows nothing of order, shard or text; 64 bits."""
    return xxhash.xxh3_64_intdigest(f"{seed}:{identifier}".encode())


class ChunkWriter:
    """Writes `documents/<stem>.parquet`, `.npy` beside it, and `quarantine/<stem>.parquet`, below `folder`."""

    def __init__(self, folder: Path, stem: str, chunk: int, seed: int) -> None:
        self.folder, self.stem, self.chunk, self.seed = folder, stem, chunk, seed
        self._counts = dict.fromkeys(("num_lines", "num_blank", "num_documents", "num_quarantined"), 0)
        self._num_characters = 0
        self._hashes: list[int] = []
        self._quarantine: list[dict[str, Any]] = []
        self._pending: list[list[pa.Array]] = []
        self._pending_rows = self._pending_bytes = 0
        self._file: HashingFile | None = None
        self._writer: pq.ParquetWriter | None = None

    def add(self, understood: Understood) -> None:
        num_documents, num_quarantined = len(understood.columns[0]), len(understood.quarantine)
        self._counts["num_lines"] += num_documents + num_quarantined + understood.num_blank
        self._counts["num_blank"] += understood.num_blank
        self._counts["num_documents"] += num_documents
        self._counts["num_quarantined"] += num_quarantined
        self._quarantine += understood.quarantine
        if num_documents:
            self._add_documents(understood.columns)

    def _add_documents(self, columns: list[list[str]]) -> None:
        self._hashes += [id_hash(identifier, self.seed) for identifier in columns[0]]
        arrays = [pa.array(column, pa.string()) for column in columns]
        self._pending.append(arrays)
        self._pending_rows += len(columns[0])
        self._pending_bytes += _ends(arrays)[-1]
        while self._pending_rows >= ROWS_PER_GROUP or self._pending_bytes >= BYTES_PER_GROUP:
            self._write_group()

    def _write_group(self) -> None:
        """Writes one row group and keeps what is left. Where it ends depends on the rows, not on how they came."""
        arrays = [pa.concat_arrays(list(pieces)) for pieces in zip(*self._pending, strict=True)]
        ends = _ends(arrays)
        length = min(ROWS_PER_GROUP, len(ends), int(np.searchsorted(ends, BYTES_PER_GROUP)) + 1)
        group = pa.Table.from_arrays([a.slice(0, length) for a in arrays], schema=DOCUMENTS)
        self._opened().write_table(group)
        self._num_characters += pc.sum(pc.utf8_length(group["text"])).as_py()
        self._pending_rows -= length
        self._pending_bytes -= int(ends[length - 1])
        self._pending = [[a.slice(length) for a in arrays]] if self._pending_rows else []

    def _opened(self) -> pq.ParquetWriter:
        if self._writer is None:
            self._file = HashingFile(self.folder / "documents" / f"{self.stem}.parquet")
            self._writer = pq.ParquetWriter(self._file, DOCUMENTS, **PARQUET_OPTIONS)
        return self._writer

    def close(self) -> ChunkResult:
        """Ends the chunk's files."""
        while self._pending_rows:
            self._write_group()
        shard, quarantine = None, ""
        if self._writer is not None and self._file is not None:
            self._writer.close()
            self._file.close()
            shard = self._file.entry(f"documents/{self.stem}.parquet")
            np.save(hashes_path(self._file.path), np.array(self._hashes, np.uint64))
        if self._quarantine:
            quarantine = f"quarantine/{self.stem}.parquet"
            (self.folder / quarantine).parent.mkdir(exist_ok=True)
            pq.write_table(pa.Table.from_pylist(self._quarantine, QUARANTINE), self.folder / quarantine)
        return ChunkResult(
            chunk=self.chunk,
            shard=shard,
            quarantine=quarantine,
            num_characters=self._num_characters,
            **self._counts,
        )


def _ends(arrays: list[pa.Array]) -> np.ndarray:
    """(documents,) bytes of text and of other fields up to the end of each document."""
    sizes = [pc.binary_length(arrays[DOCUMENTS.get_field_index(name)]).to_numpy() for name in ("text", "meta")]
    return np.cumsum(np.sum(sizes, axis=0, dtype=np.int64))
