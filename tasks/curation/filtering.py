"""The stage filter: cleaned documents that pass every filter of the cascade, and a ledger of all others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from data_contracts.artifacts import RawCorpus
from data_contracts.files import FileEntry, HashingFile
from data_contracts.manifest import Summary
from data_contracts.rows import DOCUMENTS, LEDGER, PARQUET_OPTIONS
from tasks.curation.cascade import KEPT, judge
from tasks.curation.config import FilterConfig
from tasks.curation.documents import (
    LEDGER_NAME,
    GroupWriter,
    examples_of,
    first_examples,
    ledger_rows,
    num_characters,
    num_rows,
    reconcile,
    row_groups,
    rows_written,
    split_of,
)
from tasks.curation.normalization import normalize_texts
from tasks.parallel import map_jobs
from tasks.workspace import Workspace


class ShardJob(NamedTuple):
    """One shard to filter: input, config, the artifact's folder and the scratch folder."""

    shard: Path
    config: FilterConfig
    folder: Path
    scratch: Path

    @property
    def ledger(self) -> Path:
        return self.scratch / f"{self.shard.stem}.ledger.parquet"

    @property
    def record(self) -> Path:
        return self.scratch / f"{self.shard.stem}.json"


class ShardResult(BaseModel):
    """What a finished shard came to; lies in the scratch so that a killed stage does not do it again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: FileEntry
    counts: dict[str, int]
    examples: list[dict[str, Any]]


def filter_documents(config: FilterConfig, workspace: Workspace, raw: RawCorpus) -> Summary:
    """Writes `documents/<shard>.parquet` for each shard of `raw` and `ledger.parquet`.

    Each removed document stands in the ledger with its cleaned text, which is what was scored. Raises
    ReconciliationError unless documents in = kept + removed.
    """
    shards = raw.shards()
    jobs = [ShardJob(shard, config, workspace.path, workspace.scratch) for shard in shards]
    results = {job.shard: result for job in jobs if (result := finished(job))}
    pending = [job for job in jobs if job.shard not in results]
    total, done = num_rows(shards), num_rows(results)
    workspace.progress(done, total)
    num_bytes = sum(job.shard.stat().st_size for job in pending)
    for job, result in map_jobs(filter_shard, pending, runtime=workspace.runtime, num_bytes=num_bytes):
        results[job.shard] = result
        done += result.counts["num_documents_in"]
        workspace.progress(done, total)
    for job in jobs:
        workspace.add(results[job.shard].entry)
    _write_ledger(workspace, [job.ledger for job in jobs])
    return _summary(config, workspace, shards, [results[shard] for shard in shards])


def _write_ledger(workspace: Workspace, parts: Sequence[Path]) -> None:
    with rows_written(workspace, LEDGER_NAME, LEDGER) as ledger:
        for part in parts:
            for rows in row_groups(part):
                ledger.write(rows)


def _summary(
    config: FilterConfig, workspace: Workspace, shards: Sequence[Path], results: Sequence[ShardResult]
) -> Summary:
    counts = {f"removed_by_{spec.filter}": 0 for spec in config.cascade}
    for result in results:
        counts = {name: counts.get(name, 0) + result.counts.get(name, 0) for name in counts | result.counts}
    proofs = {
        "documents": reconcile("filter", workspace, shards, counts),
        "bounds": [[spec.filter, *spec.bounds] for spec in config.cascade],
    }
    examples = first_examples(example for result in results for example in result.examples)
    return Summary(counts=counts, proofs=proofs, examples=examples)


def finished(job: ShardJob) -> ShardResult | None:
    """The result of a shard that an earlier attempt completed, None if it has to be done."""
    try:
        result = ShardResult.model_validate_json(job.record.read_bytes())
        whole = (job.folder / result.entry.name).stat().st_size == result.entry.bytes and job.ledger.exists()
    except (FileNotFoundError, ValidationError):
        return None
    return result if whole else None


def filter_shard(job: ShardJob) -> ShardResult:
    """Filters one shard. Its files get their names when they are whole, its record when both files have."""
    name = f"documents/{job.shard.name}"
    kept_part, ledger_part = (job.scratch / f"{job.shard.stem}.{kind}.{os.getpid()}" for kind in ("kept", "ledger"))
    counts: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))
    examples: list[dict[str, Any]] = []
    with (
        HashingFile(kept_part) as file,
        pq.ParquetWriter(file, DOCUMENTS, **PARQUET_OPTIONS) as kept_writer,
        pq.ParquetWriter(ledger_part, LEDGER, **PARQUET_OPTIONS) as ledger_writer,
    ):
        kept_rows, ledger = GroupWriter(kept_writer, DOCUMENTS), GroupWriter(ledger_writer, LEDGER)
        for table in row_groups(job.shard):
            kept, removed = _sift(table, job.config, split_of(job.shard), counts)
            kept_rows.write(kept)
            ledger.write(removed)
            examples = first_examples([*examples, *examples_of(removed)])
        kept_rows.finish()
        ledger.finish()
    (job.folder / "documents").mkdir(exist_ok=True)
    kept_part.replace(job.folder / name)
    ledger_part.replace(job.ledger)
    result = ShardResult(entry=file.entry(name), counts=dict(counts), examples=examples)
    record_part = job.record.with_suffix(f".{os.getpid()}")
    record_part.write_text(result.model_dump_json(), encoding="utf-8")
    record_part.replace(job.record)
    return result


_COUNTS = (
    "num_documents_in",
    "num_documents_kept",
    "num_documents_removed",
    "num_documents_normalized",
    "num_characters_in",
    "num_characters_normalized_away",
    "num_characters_kept",
    "num_characters_removed",
)


def _sift(table: pa.Table, config: FilterConfig, split: str, counts: Counter[str]) -> tuple[pa.Table, pa.Table]:
    """DOCUMENTS rows that stay and LEDGER rows of the others, after their texts were cleaned."""
    raw = table["text"].combine_chunks()
    texts, changed = normalize_texts(raw, config.normalization)
    verdict = judge(config.cascade, texts)
    table = table.set_column(table.schema.get_field_index("text"), DOCUMENTS.field("text"), texts)
    stays = verdict.rejected_by == KEPT
    kept, removed = table.filter(pa.array(stays)), table.filter(pa.array(~stays))
    specs = [config.cascade[index] for index in verdict.rejected_by[~stays]]
    score, threshold = verdict.score[~stays], verdict.threshold[~stays]
    reasons = [spec.reason(s, t) for spec, s, t in zip(specs, score.tolist(), threshold.tolist(), strict=True)]
    names = [spec.filter for spec in specs]
    rows = ledger_rows(
        removed,
        split,
        filter=pa.array(names, pa.string()),
        score=score,
        threshold=threshold,
        reason=pa.array(reasons, pa.string()),
    )
    before, after = num_characters(raw), num_characters(texts)
    counts.update({f"removed_by_{name}": number for name, number in Counter(names).items()})
    counts.update(
        num_documents_in=len(texts),
        num_documents_kept=kept.num_rows,
        num_documents_removed=removed.num_rows,
        num_documents_normalized=int(np.count_nonzero(changed)),
        num_characters_in=before,
        num_characters_normalized_away=before - after,
        num_characters_kept=num_characters(kept["text"]),
        num_characters_removed=num_characters(removed["text"]),
    )
    return kept, rows
