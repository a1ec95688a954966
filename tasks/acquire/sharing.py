"""Who reads which chunks of which file: shares that keep every worker busy, and what earlier attempts finished."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from data_contracts.errors import SourceError
from data_contracts.files import write_whole
from tasks.acquire.config import SourceConfig
from tasks.acquire.lines import Share
from tasks.acquire.reading import ReadResult, SourceFile, read_file
from tasks.acquire.shards import ChunkResult

MIN_SHARE_BYTES = 16 << 20
"""Every share unpacks the whole file, so a smaller one would not pay."""


class ReadJob(NamedTuple):
    """One share of one file. num_bytes: of the file as it lies there, divided by the number of shares."""

    index: int
    file: SourceFile
    share: Share
    num_bytes: int
    source_name: str
    config: SourceConfig
    scratch: Path

    @property
    def record(self) -> Path:
        """Where its result is noted; another number of shares is another name."""
        return self.scratch / f"read-{self.index:05d}-{self.share.part}-of-{self.share.parts}.json"

    def finished(self) -> ReadResult | None:
        """The result, if an earlier attempt ended this job."""
        return ReadResult.model_validate_json(self.record.read_bytes()) if self.record.is_file() else None


def share_out(
    files: Sequence[SourceFile], source_name: str, config: SourceConfig, scratch: Path, workers: int
) -> list[ReadJob]:
    """Jobs that read all files, in the order of the files; the results do not depend on how they are shared out."""
    sizes = [file.path.stat().st_size if file.reader == "file" else 0 for file in files]
    return [
        ReadJob(index, file, Share(part, parts), size // parts, source_name, config, scratch)
        for index, (file, size, parts) in enumerate(zip(files, sizes, num_shares(sizes, workers), strict=True))
        for part in range(parts)
    ]


def num_shares(sizes: Sequence[int], workers: int) -> list[int]:
    """For files of so many bytes, into how many shares to cut each so that none is a worker's load and more.

    Files that are small beside the load of a worker stay whole, as each share unpacks the file anew.
    """
    load = max(1, sum(sizes) // workers)
    return [max(1, min(workers, -(-size // load), size // MIN_SHARE_BYTES)) for size in sizes]


def read(job: ReadJob) -> ReadResult:
    """Does the job and notes that it is done."""
    result = read_file(job.file, job.index, job.source_name, job.config, job.scratch, job.share)
    write_whole(job.record, result.model_dump_json())
    return result


def whole_file(file: SourceFile, shares: Collection[ReadResult]) -> list[ChunkResult]:
    """All chunks of a file in order; shares: the results of all of its. Raises SourceError where they differ."""
    chunks = sorted((chunk for share in shares for chunk in share.chunks), key=lambda chunk: chunk.chunk)
    num_lines = {share.num_lines_in_file for share in shares}
    if num_lines != {sum(chunk.num_lines for chunk in chunks)}:
        raise SourceError(
            f"`{file.path}`: its shares found {sorted(num_lines)} lines and read "
            f"{sum(chunk.num_lines for chunk in chunks)}, expected equal numbers",
            hint="let nothing write to the source during a run, then run again",
        )
    return chunks
