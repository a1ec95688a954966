"""Writing the rows of a corpus to the files that each belongs in, on any engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.files import FileEntry, HashingFile
from data_contracts.rows import DOCUMENTS, PARQUET_OPTIONS
from tasks.curation.documents import GroupWriter, RowGroup, num_characters
from tasks.curation.workers import map_light
from tasks.runtime import Runtime


class Output(NamedTuple):
    """A file for the rows of one side. name: its path relative to the artifact's folder."""

    side: int
    name: str


class SelectJob(NamedTuple):
    """Rows `first` to `stop` of the corpus to be divided. sides: file with the (documents,) uint8 side of each."""

    groups: tuple[RowGroup, ...]
    first: int
    stop: int
    sides: Path
    outputs: tuple[Output, ...]
    folder: Path


class Selected(NamedTuple):
    entry: FileEntry
    num_characters: int


def select_rows(jobs: Sequence[SelectJob], runtime: Runtime) -> dict[str, Selected]:
    """What became of each output of all jobs, by its name."""
    return {selected.entry.name: selected for written in select_in_order(jobs, runtime) for selected in written}


def select_in_order(jobs: Sequence[SelectJob], runtime: Runtime) -> Iterator[list[Selected]]:
    """What became of the outputs of each job, as soon as it and all before it are done; the others go on meanwhile."""
    num_bytes = sum(group.num_bytes for job in jobs for group in job.groups)
    results = map_light(select, jobs, runtime=runtime, num_bytes=num_bytes)
    done: dict[SelectJob, list[Selected]] = {}
    for job in jobs:
        while job not in done:
            done.update([next(results)])
        yield done.pop(job)


def select(job: SelectJob) -> list[Selected]:
    """Writes the DOCUMENTS rows of a job, in order, each to the output of its side if there is one."""
    sides = np.load(job.sides, mmap_mode="r")
    characters = [0] * len(job.outputs)
    files = [HashingFile(job.folder / output.name) for output in job.outputs]
    with ExitStack() as stack:
        writers = [
            GroupWriter(
                stack.enter_context(pq.ParquetWriter(stack.enter_context(file), DOCUMENTS, **PARQUET_OPTIONS)),
                DOCUMENTS,
            )
            for file in files
        ]
        for group in job.groups:
            rows = np.arange(group.start, group.start + group.num_rows)
            inside = (rows >= job.first) & (rows < job.stop)
            table, side = group.read(), sides[rows]
            for index, (writer, output) in enumerate(zip(writers, job.outputs, strict=True)):
                chosen = table.filter(pa.array(inside & (side == output.side)))
                characters[index] += num_characters(chosen["text"])
                writer.write(chosen)
        for writer in writers:
            writer.finish()
    written = zip(files, job.outputs, characters, strict=True)
    return [Selected(file.entry(output.name), number) for file, output, number in written]
