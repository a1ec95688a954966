"""A source's records, numbered and cut into chunks of equal length, within bounds on memory and on unpacked bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.errors import SourceError
from data_contracts.rows import ROWS_PER_GROUP

LINES_PER_CHUNK = 2 * ROWS_PER_GROUP
"""A chunk becomes one output shard. Small enough that one file of the LLM-JP corpus feeds several cores."""

BLOCK_BYTES = 1 << 20
HEAD_BYTES = 4096
_ROWS_AT_ONCE = 1024
_LARGE_BATCH_BYTES = 256 << 20  # rows of such a batch go one by one, as a string column holds 2 GiB at most


class Share(NamedTuple):
    """The chunks of a file that one job reads: those whose number leaves `part` when divided by `parts`."""

    part: int = 0
    parts: int = 1
    lines_per_chunk: int = LINES_PER_CHUNK

    def owns(self, chunk: int) -> bool:
        return chunk % self.parts == self.part


class TooLong(NamedTuple):
    """What was kept of a line that is longer than `max_line_bytes`."""

    head: bytes
    num_bytes: int


Record = bytes | TooLong | dict[str, Any]
"""A line without its newline, or the object that a columnar source gave."""


class Lines(NamedTuple):
    """Consecutive lines of one chunk. first: number of the first, from 1; byte_offset: its own, -1 where unknown;
    content: the lines as they stand, each ended by a newline, or one record a line.
    """

    chunk: int
    first: int
    byte_offset: int
    content: bytes | list[Record]

    def records(self) -> list[Any]:
        """A Record for each line."""
        return self.content.split(b"\n")[:-1] if isinstance(self.content, bytes) else self.content

    def byte_offsets(self) -> list[int]:
        """Where each line begins in the uncompressed file."""
        if self.byte_offset < 0:
            return [-1] * len(self.content)
        lengths = [1 + (r.num_bytes if isinstance(r, TooLong) else len(r)) for r in self.records()]
        return list(accumulate(lengths, initial=self.byte_offset))


class JsonLines:
    """Iterates over the lines of a share; when that has ended, `num_lines` is the length of the whole file.

    Lines of others are counted by the block, not touched one by one. At most one line is in memory besides a block, and
    of a line longer than `max_line_bytes` only its head.
    """

    def __init__(self, blocks: Iterable[bytes], share: Share, max_line_bytes: int) -> None:
        self.blocks, self.share, self.max_line_bytes = blocks, share, max_line_bytes
        self.num_lines = 0
        self._line_start = 0  # byte offset of the line that was not yet ended
        self._start_line()

    def __iter__(self) -> Iterator[Lines]:
        block_start = 0
        for block in self.blocks:
            position = 0
            while position < len(block):
                chunk, done = divmod(self.num_lines, self.share.lines_per_chunk)
                num, end = _next_lines(block, position, self.share.lines_per_chunk - done)
                if num and self.share.owns(chunk):
                    yield Lines(chunk, self.num_lines + 1, self._line_start, self._ended(block[position:end]))
                if num:
                    self.num_lines, self._line_start = self.num_lines + num, block_start + end
                if done + num < self.share.lines_per_chunk:
                    if self.share.owns(chunk):
                        self._continue_line(block[end:])
                    break
                position = end
            block_start += len(block)
        if block_start > self._line_start:
            chunk = self.num_lines // self.share.lines_per_chunk
            self.num_lines += 1
            if self.share.owns(chunk):
                yield Lines(chunk, self.num_lines, self._line_start, self._ended(b"\n"))

    def _start_line(self) -> None:
        self._pieces: list[bytes] = []
        self._head, self._num_bytes = b"", 0

    def _continue_line(self, piece: bytes) -> None:
        """Notes a piece of a line that has no end yet."""
        self._num_bytes += len(piece)
        if len(self._head) < HEAD_BYTES:
            self._head += piece[: HEAD_BYTES - len(self._head)]
        if self._num_bytes > self.max_line_bytes:
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    def _ended(self, block: bytes) -> bytes | list[Record]:
        """The content of a block that ends with a newline; its first line may have begun in earlier blocks."""
        too_long: list[Record] = []
        if self._num_bytes:
            first = block.index(b"\n")
            self._continue_line(block[:first])
            if self._num_bytes > self.max_line_bytes:
                too_long, block = [TooLong(self._head, self._num_bytes)], block[first + 1 :]
            else:
                block = b"".join((*self._pieces, block[first:]))
            self._start_line()
        if too_long or self.max_line_bytes < len(block):
            return too_long + [self._bounded(line) for line in block.split(b"\n")[:-1]]
        return block

    def _bounded(self, line: bytes) -> bytes | TooLong:
        return line if len(line) <= self.max_line_bytes else TooLong(line[:HEAD_BYTES], len(line))


def _next_lines(block: bytes, position: int, wanted: int) -> tuple[int, int]:
    """How many lines end in the block from `position` on, `wanted` at most, and where the last of them ends."""
    found = block.count(b"\n", position)
    if found <= wanted:
        return found, block.rfind(b"\n", position) + 1 if found else position
    newlines = np.flatnonzero(np.frombuffer(block, np.uint8, offset=position) == ord("\n"))
    return wanted, position + int(newlines[wanted - 1]) + 1


class Rows:
    """Iterates over the objects of a share, like JsonLines; `rows` holds lists of consecutive objects."""

    def __init__(self, rows: Iterable[list[dict[str, Any]]], share: Share) -> None:
        self.rows, self.share = rows, share
        self.num_lines = 0

    def __iter__(self) -> Iterator[Lines]:
        for rows in self.rows:
            while rows:
                chunk, done = divmod(self.num_lines, self.share.lines_per_chunk)
                mine, rows = rows[: self.share.lines_per_chunk - done], rows[self.share.lines_per_chunk - done :]
                if self.share.owns(chunk):
                    yield Lines(chunk, self.num_lines + 1, -1, list(mine))
                self.num_lines += len(mine)


class ParquetRows:
    """Iterates over the rows of a share of a parquet file; row groups that hold none of them are not read."""

    def __init__(self, path: Path, share: Share, max_uncompressed_bytes: int) -> None:
        self.path, self.share, self.max_bytes = path, share, max_uncompressed_bytes
        self.num_lines = 0

    def __iter__(self) -> Iterator[Lines]:
        with pq.ParquetFile(self.path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            _check_bound(self.path, sum(group.total_byte_size for group in groups), self.max_bytes)
            unpacked = 0
            for number, group in enumerate(groups):
                first, self.num_lines = self.num_lines, self.num_lines + group.num_rows
                if not self._concerns(first, self.num_lines):
                    continue
                # The footer's sizes are of encoded pages: a dictionary makes much of little, so count what comes out.
                for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[number], use_threads=False):
                    unpacked += batch.nbytes
                    _check_bound(self.path, unpacked, self.max_bytes)
                    yield from self._cut(batch, first)
                    first += len(batch)

    def _concerns(self, first: int, stop: int) -> bool:
        if first == stop:
            return False
        per_chunk = self.share.lines_per_chunk
        chunks = range(first // per_chunk, (stop - 1) // per_chunk + 1)
        return len(chunks) >= self.share.parts or any(self.share.owns(chunk) for chunk in chunks)

    def _cut(self, batch: pa.RecordBatch, first: int) -> Iterator[Lines]:
        step = len(batch) if batch.nbytes < _LARGE_BATCH_BYTES else 1
        position = 0
        while position < len(batch):
            chunk, done = divmod(first + position, self.share.lines_per_chunk)
            length = min(step, self.share.lines_per_chunk - done, len(batch) - position)
            if self.share.owns(chunk):
                yield Lines(chunk, first + position + 1, -1, batch.slice(position, length).to_pylist())
            position += length


def blocks_of(path: Path, name: str, max_uncompressed_bytes: int) -> Iterator[bytes]:
    """The uncompressed bytes of a file; SourceError where a compressed one holds more than `max_uncompressed_bytes`."""
    unpacked = 0
    with _opened(path, name) as file:
        while block := file.read(BLOCK_BYTES):
            unpacked += len(block)
            if not name.endswith(".jsonl"):
                _check_bound(path, unpacked, max_uncompressed_bytes)
            yield block


def _opened(path: Path, name: str) -> Any:
    """The uncompressed bytes of a file, as a binary file open for reading."""
    if name.endswith(".gz"):
        from isal import igzip

        return igzip.open(path, "rb")
    if name.endswith(".zst"):
        # Arrow's reader refuses a stream that is cut short; the zstandard package ends it as if it were whole.
        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"), BLOCK_BYTES)
    return open(path, "rb")


def _check_bound(path: Path, unpacked: int, bound: int) -> None:
    if unpacked > bound:
        raise SourceError(
            f"`{path}`: it unpacks to {unpacked:,} bytes or more, expected at most {bound:,}",
            hint="if the file is to be trusted, raise `source.max_uncompressed_bytes`",
        )
