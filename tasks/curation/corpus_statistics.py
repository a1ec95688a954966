"""What steps of a cascade need to know of the whole corpus, counted shard by shard before any document is judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from tasks.curation.config import FilterConfig, NormalizationConfig
from tasks.curation.documents import row_groups
from tasks.curation.filters.base import Statistic
from tasks.curation.normalization import normalize_texts
from tasks.parallel import map_jobs
from tasks.workspace import Workspace


class CountJob(NamedTuple):
    """One shard to count: input, what to count, how texts are cleaned, the scratch folder."""

    shard: Path
    statistics: tuple[Statistic, ...]
    normalization: NormalizationConfig
    scratch: Path

    def part(self, statistic: Statistic) -> Path:
        return self.scratch / f"{self.shard.stem}.{statistic.name}.arrow"


def count_over_corpus(config: FilterConfig, workspace: Workspace, shards: Sequence[Path]) -> dict[str, Path]:
    """Arrow files of the statistics that the cascade asks for, by name; none are counted that no step needs.

    They are counted over all normalised documents, kept or not, as the first step of the cascade would see them.
    """
    wanted = tuple({s.name: s for step in config.cascade for s in step.statistics()}.values())
    paths = {statistic.name: workspace.scratch / f"{statistic.name}.statistic.arrow" for statistic in wanted}
    if all(path.is_file() for path in paths.values()):
        return paths
    jobs = [CountJob(shard, wanted, config.normalization, workspace.scratch) for shard in shards]
    pending = [job for job in jobs if not all(job.part(statistic).is_file() for statistic in wanted)]
    num_bytes = sum(job.shard.stat().st_size for job in pending)
    done = len(jobs) - len(pending)
    for _ in map_jobs(_count_shard, pending, runtime=workspace.runtime, num_bytes=num_bytes):
        done += 1
        workspace.progress(done, len(jobs), unit="shards counted")
    for statistic in wanted:
        table = statistic.combine(_read(job.part(statistic)) for job in jobs)
        _write(statistic.finish(table), paths[statistic.name])
    return paths


def open_statistics(paths: dict[str, Path]) -> dict[str, pa.Table]:
    """The counted tables, mapped into memory, so that all processes of a machine share one copy."""
    return {name: _read(path) for name, path in paths.items()}


def _count_shard(job: CountJob) -> None:
    parts: list[list[pa.Table]] = [[] for _ in job.statistics]
    for table in row_groups(job.shard, ["text"]):
        texts, _ = normalize_texts(table["text"].combine_chunks(), job.normalization)
        for statistic, tables in zip(job.statistics, parts, strict=True):
            tables.append(statistic.gather(texts))
    for statistic, tables in zip(job.statistics, parts, strict=True):
        _write(statistic.combine(tables), job.part(statistic))


def _write(table: pa.Table, path: Path) -> None:
    partial = path.with_suffix(".partial")
    with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    partial.rename(path)


def _read(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
