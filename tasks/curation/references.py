"""Documents from outside that a corpus is compared with: where they lie, what they hold, and their rows."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from data_contracts.artifacts import Corpus
from data_contracts.errors import SourceError
from data_contracts.files import digest_of
from data_contracts.manifest import MANIFEST_NAME
from tasks.acquire.config import LocalSource
from tasks.acquire.lines import JsonLines, ParquetRows, Share, blocks_of
from tasks.acquire.local import find_files
from tasks.acquire.reading import SourceFile
from tasks.acquire.records import understand
from tasks.curation.config import DedupConfig, Documents
from tasks.curation.documents import row_groups

ROWS = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("text", pa.string(), nullable=False)])


class DocumentFile(NamedTuple):
    """One file of a reference. sealed: a shard of ours, whose columns are known."""

    path: Path
    name: str
    sealed: bool
    reference: Documents


def outside_digests(config: DedupConfig) -> dict[str, str]:
    """Content digests of the references, which the config names only by path."""
    return {f"against:{reference.name}": content_digest(reference) for reference in config.against}


def content_digest(reference: Documents) -> str:
    """That of the sealed corpus, or of the names and hashes of all files. Raises ArtifactError or SourceError."""
    if _is_sealed(reference):
        return Corpus.open(reference.path).digest
    return digest_of([[file.name, file.sha256] for file in _source_files(reference)])


def files_of(reference: Documents) -> list[DocumentFile]:
    """The files of a reference, sorted by name."""
    if _is_sealed(reference):
        return [DocumentFile(path, path.name, True, reference) for path in Corpus.open(reference.path).shards()]
    return [DocumentFile(file.path, file.name, False, reference) for file in _source_files(reference)]


def _is_sealed(reference: Documents) -> bool:
    return (reference.path / MANIFEST_NAME).is_file()


def _source_files(reference: Documents) -> list[SourceFile]:
    try:
        return find_files(_source(reference))
    except SourceError as error:
        raise SourceError(
            error.message, hint=f"set `path` of the reference `{reference.name}` in `dedup.against`"
        ) from None


def rows_of(file: DocumentFile) -> Iterator[pa.Table]:
    """Tables of the columns id, which is `<name>:<id>`, and text. Raises SourceError for a line that is no document."""
    if file.sealed:
        for table in row_groups(file.path, ROWS.names):
            yield _table(file, table["id"].to_pylist(), table["text"].to_pylist())
        return
    source = _source(file.reference)
    try:
        for lines in _lines(file, source):
            understood = understand(lines, file.name, ".", source)
            for row in understood.quarantine:
                raise SourceError(
                    f"`{file.path}`: line {row['line']} is no document: {row['reason']}",
                    hint=f"mend it, or set `text_field` of the reference `{file.reference.name}` in `dedup.against`",
                )
            ids, texts, *_ = understood.columns
            yield _table(file, ids, texts)
    except (OSError, EOFError, zlib.error, pa.ArrowInvalid) as error:
        raise SourceError(
            f"`{file.path}`: {type(error).__name__}: {error}; expected a whole file of documents",
            hint="fetch or export the file again; it is damaged or cut short",
        ) from error


def _lines(file: DocumentFile, source: LocalSource) -> JsonLines | ParquetRows:
    if file.name.endswith(".parquet"):
        return ParquetRows(file.path, Share(), source.max_uncompressed_bytes)
    blocks = blocks_of(file.path, file.name, source.max_uncompressed_bytes)
    return JsonLines(blocks, Share(), source.max_line_bytes)


def _source(reference: Documents) -> LocalSource:
    return LocalSource(path=reference.path, text_field=reference.text_field, id_field=reference.id_field)


def _table(file: DocumentFile, ids: Sequence[str], texts: Sequence[str]) -> pa.Table:
    return pa.table([[f"{file.reference.name}:{i}" for i in ids], texts], schema=ROWS)
