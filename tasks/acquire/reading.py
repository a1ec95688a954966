"""Source files to document rows: every line becomes a document or goes to quarantine with the reason."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import SourceError
from data_contracts.files import FileEntry, HashingFile, hash_file
from data_contracts.rows import DOCUMENTS, PARQUET_OPTIONS, QUARANTINE, ROWS_PER_GROUP

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
QUARANTINED_BYTES = 4096
DOCUMENTS_PER_SHARD = 50_000


class SourceFile(BaseModel):
    """One file of a source, at rest on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="Where it lies; for a Hugging Face data set, its name.")
    name: str = Field(description="Name relative to the source, for ledgers.")
    split: str = Field(default="train", description="train or validation.")
    sha256: str = Field(default="", description="What its content must hash to; empty where that is not known.")
    reader: str = Field(default="file", description="file, or huggingface.")


class ReadResult(BaseModel):
    """What became of one source file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: list[FileEntry]
    quarantine: str
    num_lines: int
    num_blank: int
    num_documents: int
    num_quarantined: int
    num_characters: int


class Line(NamedTuple):
    """A record before it is understood: its bytes, or an object that a columnar source gave."""

    number: int
    byte_offset: int
    content: bytes | dict[str, Any]


class Unreadable(Exception):
    """Why a line is no document."""


def split_of(name: str) -> str:
    """`validation` for the LLM-JP layout's `validation_*` files, else `train`."""
    return "validation" if Path(name).name.startswith("validation") else "train"


def lines_of(path: Path, name: str) -> Iterator[Line]:
    """The lines of a JSON-lines file, or the rows of a parquet file.

    Raises SourceError where the file is missing, truncated or not what its name says.
    """
    try:
        if name.endswith(".parquet"):
            yield from _parquet_rows(path)
        else:
            with _opened(path, name) as file:
                yield from _json_lines(file)
    except (OSError, EOFError, zlib.error, pa.ArrowInvalid) as error:
        raise SourceError(
            f"`{path}`: {type(error).__name__}: {error}; expected a whole {'/'.join(SUFFIXES)} file",
            hint="fetch or export the file again; it is damaged or cut short",
        ) from error


def _opened(path: Path, name: str) -> Any:
    """The uncompressed bytes of a file, as a binary file open for reading."""
    if name.endswith(".gz"):
        from isal import igzip

        return igzip.open(path, "rb")
    if name.endswith(".zst"):
        # Arrow's reader refuses a stream that is cut short; the zstandard package ends it as if it were whole.
        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"), 1 << 20)
    return open(path, "rb")


def _json_lines(file: Iterable[bytes]) -> Iterator[Line]:
    offset = 0
    for number, content in enumerate(file, 1):
        yield Line(number, offset, content)
        offset += len(content)


def _parquet_rows(path: Path) -> Iterator[Line]:
    with pq.ParquetFile(path) as file:
        number = 0
        for batch in file.iter_batches(ROWS_PER_GROUP):
            for row in batch.to_pylist():
                number += 1
                yield Line(number, -1, row)


def _huggingface_rows(source: SourceFile, config: Any) -> Iterator[Line]:
    from datasets import load_dataset

    rows = load_dataset(
        str(source.path), config.config_name, split=config.dataset_split, revision=config.revision, streaming=True
    )
    for number, row in enumerate(rows, 1):
        yield Line(number, -1, dict(row))


def record_of(content: bytes | dict[str, Any]) -> dict[str, Any]:
    """The JSON object of a line. Raises Unreadable."""
    if isinstance(content, dict):
        return content
    try:
        record = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as encoding:
            raise Unreadable(f"not UTF-8: {encoding.reason} at byte {encoding.start} of the line") from None
        raise Unreadable(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise Unreadable(f"a JSON {type(record).__name__}, expected an object")
    return record


def document_of(record: dict[str, Any], source: str, default_id: str, config: Any) -> dict[str, str]:
    """The row (data_contracts.rows.DOCUMENTS) of a record in LLM-JP layout or flat. Raises Unreadable."""
    rest = dict(record)
    text = rest.pop(config.text_field, None)
    if not isinstance(text, str):
        found = "no field" if text is None else f"a {type(text).__name__}"
        raise Unreadable(f"{found} `{config.text_field}`, expected text")
    meta = rest.pop("meta", None)
    if isinstance(meta, dict):
        rest = {**meta, **rest}
    elif meta is not None:
        rest["meta"] = meta
    identifier = rest.pop(config.id_field, None)
    title, url = rest.pop("title", None), rest.pop("url", None)
    return {
        "id": default_id if identifier in (None, "") else str(identifier),
        "text": text,
        "source": source,
        "url": "" if url is None else str(url),
        "title": "" if title is None else str(title),
        "meta": orjson.dumps(rest, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode(),
    }


class _Shards:
    """Writes rows into shards of bounded size next to each other, hashed while written."""

    def __init__(self, folder: Path, stem: str, schema: pa.Schema) -> None:
        self.folder, self.stem, self.schema = folder, stem, schema
        self.entries: list[FileEntry] = []
        self._rows: list[dict[str, Any]] = []
        self._file: HashingFile | None = None
        self._writer: pq.ParquetWriter | None = None
        self._in_shard = 0

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == ROWS_PER_GROUP:
            self._write_group()
        if self._in_shard >= DOCUMENTS_PER_SHARD:
            self._close_shard()

    def _write_group(self) -> None:
        if self._writer is None:
            self._name = f"{self.stem}-{len(self.entries):03d}.parquet"
            self._file = HashingFile(self.folder / self._name)
            self._writer = pq.ParquetWriter(self._file, self.schema, **PARQUET_OPTIONS)
        self._writer.write_table(pa.Table.from_pylist(self._rows, self.schema))
        self._in_shard += len(self._rows)
        self._rows = []

    def _close_shard(self) -> None:
        if self._writer is None or self._file is None:
            return
        self._writer.close()
        self._file.close()
        self.entries.append(self._file.entry(f"{self.folder.name}/{self._name}"))
        self._writer, self._file, self._in_shard = None, None, 0

    def close(self) -> list[FileEntry]:
        if self._rows:
            self._write_group()
        self._close_shard()
        return self.entries


def read_file(source: SourceFile, index: int, source_name: str, config: Any, folder: Path) -> ReadResult:
    """Reads one source file into shards `documents/<split>-<index>-NNN.parquet` and `quarantine-<index>.parquet`.

    Raises SourceError for a file that cannot be read whole
    or whose sha256 is not the one it was announced with.
    """
    shards = _Shards(folder / "documents", f"{source.split}-{index:05d}", DOCUMENTS)
    quarantine: list[dict[str, Any]] = []
    counts = {"num_lines": 0, "num_blank": 0, "num_documents": 0, "num_characters": 0}
    rows = _huggingface_rows(source, config) if source.reader == "huggingface" else lines_of(source.path, source.name)
    for line in rows:
        counts["num_lines"] += 1
        if isinstance(line.content, bytes) and not line.content.strip():
            counts["num_blank"] += 1
            continue
        place = f"{source_name}/{source.name}:{line.number}"
        try:
            row = document_of(record_of(line.content), place, place, config)
        except Unreadable as reason:
            quarantine.append(_quarantined(source.name, line, str(reason)))
            continue
        shards.add(row)
        counts["num_documents"] += 1
        counts["num_characters"] += len(row["text"])
    _check_unchanged(source)
    quarantine_path = folder / f"quarantine-{index:05d}.parquet"
    pq.write_table(pa.Table.from_pylist(quarantine, QUARANTINE), quarantine_path)
    return ReadResult(
        shards=shards.close(), quarantine=str(quarantine_path.name), num_quarantined=len(quarantine), **counts
    )


def _check_unchanged(source: SourceFile) -> None:
    if source.sha256 and (found := hash_file(source.path).sha256) != source.sha256:
        raise SourceError(
            f"`{source.path}`: its content changed while it was read (sha256 {found[:12]}…, "
            f"expected {source.sha256[:12]}…)",
            hint="let nothing write to the source during a run, then run again",
        )


def _quarantined(name: str, line: Line, reason: str) -> dict[str, Any]:
    raw = line.content if isinstance(line.content, bytes) else orjson.dumps(line.content, default=str)
    return {
        "file": name,
        "line": line.number,
        "byte_offset": line.byte_offset,
        "reason": reason,
        "raw": raw.rstrip(b"\r\n")[:QUARANTINED_BYTES],
    }


def sample_hashes(ids: pa.ChunkedArray, seed: int) -> np.ndarray:
    """(documents,) uint64: where each id falls in a draw that knows nothing of order, shard or text."""
    prefix = f"{seed}:"
    return np.fromiter(
        (xxhash.xxh3_64_intdigest((prefix + i).encode()) for i in ids.to_pylist()), dtype=np.uint64, count=len(ids)
    )
