"""Source files to document rows: every line becomes a document or goes to quarantine with the reason."""

from __future__ import annotations

import gc
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pyarrow as pa
from isal import igzip_lib
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import SourceError
from data_contracts.files import hash_file
from tasks.acquire.config import HuggingFaceSource, Source
from tasks.acquire.lines import JsonLines, Lines, ParquetRows, Rows, Share, blocks_of
from tasks.acquire.records import understand
from tasks.acquire.shards import ChunkResult, ChunkWriter

# The stubs of isal declare its error as an object.
_DAMAGE = (OSError, EOFError, zlib.error, cast(type[Exception], igzip_lib.IsalError), pa.ArrowInvalid)

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


class SourceFile(BaseModel):
    """One file of a source, at rest on this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="Where it lies; for a Hugging Face data set, its name.")
    name: str = Field(description="Name relative to the source, for ledgers.")
    split: str = Field(default="train", description="train or validation.")
    sha256: str = Field(default="", description="What its content must hash to; empty where that is not known.")
    reader: str = Field(default="file", description="file, or huggingface.")
    revision: str = Field(default="", description="For a Hugging Face data set, the commit that is read.")


class ReadResult(BaseModel):
    """What became of the chunks of one share of a source file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chunks: list[ChunkResult] = Field(description="Those of the share, in the order of the file.")
    num_lines_in_file: int = Field(description="Lines of the whole file, as this share's reader counted them.")

    @property
    def num_documents(self) -> int:
        return sum(chunk.num_documents for chunk in self.chunks)


def split_of(name: str) -> str:
    """`validation` for the LLM-JP layout's `validation_*` files, else `train`."""
    return "validation" if Path(name).name.startswith("validation") else "train"


def read_file(
    source: SourceFile, index: int, source_name: str, config: Source, folder: Path, share: Share | None = None
) -> ReadResult:
    """Reads a share of the chunks of one source file into `documents/<split>-<index>-<chunk>.parquet` below `folder`.

    Line numbers, byte offsets and the bytes of each shard are the same whoever reads the rest of the file. The first
    share also proves that the file is the one that was announced. Raises SourceError for a file that cannot be read
    whole, that unpacks to more than allowed, or whose sha256 is another.
    """
    share = share or Share()
    chunks: list[ChunkResult] = []
    writer: ChunkWriter | None = None
    reader = _reader(source, config, share)
    with _without_cycle_collection():
        for lines in _named_failures(reader, source):
            if writer is None or writer.chunk != lines.chunk:
                chunks += [writer.close()] if writer else []
                stem = f"{source.split}-{index:05d}-{lines.chunk:05d}"
                writer = ChunkWriter(folder, stem, lines.chunk, config.sample_seed)
            writer.add(understand(lines, source.name, source_name, config))
        chunks += [writer.close()] if writer else []
    if share.part == 0:
        _check_unchanged(source)
    return ReadResult(chunks=chunks, num_lines_in_file=reader.num_lines)


def documents_of(source: SourceFile, source_name: str, config: Source) -> Iterator[tuple[str, ...]]:
    """The documents of a file as rows in the order of DOCUMENTS, one after the other; what is none is left out.

    Raises SourceError as `read_file` does.
    """
    for lines in _named_failures(_reader(source, config, Share()), source):
        yield from zip(*understand(lines, source.name, source_name, config).columns, strict=True)


def _reader(source: SourceFile, config: Source, share: Share) -> JsonLines | ParquetRows | Rows:
    if isinstance(config, HuggingFaceSource):
        from tasks.acquire.huggingface import rows_of

        return Rows(rows_of(source, config), share)
    if source.name.endswith(".parquet"):
        return ParquetRows(source.path, share, config.max_uncompressed_bytes)
    blocks = blocks_of(source.path, source.name, config.max_uncompressed_bytes)
    return JsonLines(blocks, share, config.max_line_bytes)


@contextmanager
def _without_cycle_collection() -> Iterator[None]:
    """Records hold no reference cycles, and looking for some costs a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _named_failures(lines: Iterable[Lines], source: SourceFile) -> Iterator[Lines]:
    """The same lines; damage that a decompressor reports becomes a SourceError that names the file."""
    try:
        yield from lines
    except _DAMAGE as error:
        raise SourceError(
            f"`{source.path}`: {type(error).__name__}: {error}; expected a whole {'/'.join(SUFFIXES)} file",
            hint="fetch or export the file again; it is damaged or cut short",
        ) from error


def _check_unchanged(source: SourceFile) -> None:
    if source.sha256 and (found := hash_file(source.path).sha256) != source.sha256:
        raise SourceError(
            f"`{source.path}`: its content changed while it was read (sha256 {found[:12]}…, "
            f"expected {source.sha256[:12]}…)",
            hint="let nothing write to the source during a run, then run again",
        )
