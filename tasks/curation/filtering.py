"""The stage filter: cleaned documents that pass every step of the cascade, and ledgers of all others and all edits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from data_contracts.artifacts import RawCorpus
from data_contracts.files import FileEntry, HashingFile, write_whole
from data_contracts.manifest import Summary
from data_contracts.rows import DOCUMENTS, EDITS, LEDGER, PARQUET_OPTIONS
from tasks.curation.cascade import KEPT, ScoreAhead, Verdict, judge
from tasks.curation.config import FilterConfig
from tasks.curation.corpus_statistics import count_over_corpus, open_statistics
from tasks.curation.documents import (
    LEDGER_NAME,
    GroupWriter,
    examples_of,
    first_examples,
    ledger_rows,
    num_bytes_of,
    num_characters,
    num_rows,
    reconcile,
    row_groups,
    rows_written,
    split_of,
)
from tasks.curation.filters.base import Batch
from tasks.curation.histograms import edges, histogram, num_bins
from tasks.curation.normalization import normalize_texts
from tasks.parallel import map_jobs
from tasks.workspace import Workspace

EDITS_NAME = "edits.parquet"
HISTOGRAMS_NAME = "histograms.json"


class ShardJob(NamedTuple):
    """One shard to filter: input, config, the artifact's folder and the scratch folder, statistics by name."""

    shard: Path
    config: FilterConfig
    folder: Path
    scratch: Path
    statistics: dict[str, Path]

    def part(self, kind: str) -> Path:
        return self.scratch / f"{self.shard.stem}.{kind}.parquet"

    @property
    def record(self) -> Path:
        return self.scratch / f"{self.shard.stem}.json"


class ShardResult(BaseModel):
    """What a finished shard came to; lies in the scratch so that a killed stage does not do it again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: FileEntry
    counts: dict[str, int]
    examples: list[dict[str, Any]]
    histograms: list[dict[str, list[int]]]


Take = Callable[[ShardJob, ShardResult], None]
"""Called with each shard as soon as it is done, and what it came to."""


def filter_documents(config: FilterConfig, workspace: Workspace, raw: RawCorpus) -> Summary:
    """Writes `documents/<shard>.parquet` for each shard of `raw`, `ledger.parquet`, `edits.parquet`, `histograms.json`.

    Each removed document stands in the ledger with the text that was scored, and each piece that a step took out of a
    text in the edits. Raises ReconciliationError unless documents in = kept + removed.
    """
    shards = raw.shards()
    statistics = count_over_corpus(config, workspace, shards)
    if any(step.filter == "uzushio_jar" for step in config.cascade):
        from tasks.curation.uzushio.spark import run_jar

        statistics |= run_jar(config, workspace, shards)
    jobs = [ShardJob(shard, config, workspace.path, workspace.scratch, statistics) for shard in shards]
    results = {job.shard: result for job in jobs if (result := finished(job))}
    pending = [job for job in jobs if job.shard not in results]
    total, done = num_rows(shards), num_rows(results)
    workspace.progress(done, total)

    def take(job: ShardJob, result: ShardResult) -> None:
        nonlocal done
        results[job.shard] = result
        done += result.counts["num_documents_in"]
        workspace.progress(done, total)

    _filter_shards(pending, config, workspace, take)
    for job in jobs:
        workspace.add(results[job.shard].entry)
    _join(workspace, LEDGER_NAME, LEDGER, [job.part("ledger") for job in jobs])
    _join(workspace, EDITS_NAME, EDITS, [job.part("edits") for job in jobs])
    ordered = [results[shard] for shard in shards]
    workspace.write_bytes(HISTOGRAMS_NAME, json.dumps(_histograms(config, ordered), indent=1).encode())
    return _summary(config, workspace, shards, ordered)


def _filter_shards(jobs: Sequence[ShardJob], config: FilterConfig, workspace: Workspace, take: Take) -> None:
    if workspace.runtime.engine == "curator":
        from tasks.curation.engines.curator import filter_on_curator

        filter_on_curator(jobs, config, workspace, take)
        return
    work = filter_shard
    if jobs and workspace.runtime.engine == "cudf":
        from tasks.curation.engines.device_filtering import filter_shard_on_device as work
        from tasks.curation.engines.device_filtering import scores_by_device

        scores_by_device()  # so that what is missing is told before any process is started
    lock_free = not any(step.holds_lock for step in config.cascade)
    num_bytes = num_bytes_of(job.shard for job in jobs)
    running = map_jobs(work, jobs, runtime=workspace.runtime, num_bytes=num_bytes, lock_free=lock_free)
    for job, result in running:
        take(job, result)


def _join(workspace: Workspace, name: str, schema: pa.Schema, parts: Sequence[Path]) -> None:
    with rows_written(workspace, name, schema) as joined:
        for part in parts:
            for rows in row_groups(part):
                joined.write(rows)


def _histograms(config: FilterConfig, results: Sequence[ShardResult]) -> list[dict[str, Any]]:
    """For each step and label that scored: its bounds, and how many documents reached it with a score in which bin."""
    rows = []
    for index, step in enumerate(config.cascade):
        for label in step.labels:
            bins = np.zeros(num_bins(step.scale_of(label)), dtype=np.int64)
            for result in results:
                bins += np.array(result.histograms[index].get(label, np.zeros_like(bins)))
            lower, upper = step.bounds_of(label)
            row = {"step": index, "label": label, "lower": lower, "upper": upper, "scale": step.scale_of(label)}
            row |= {"edges": edges(step.scale_of(label)).tolist(), "num_documents": bins.tolist()}
            if bins.any():
                rows.append(row)
    return rows


def _summary(
    config: FilterConfig, workspace: Workspace, shards: Sequence[Path], results: Sequence[ShardResult]
) -> Summary:
    counts = {f"removed_by_{label}": 0 for step in config.cascade for label in step.labels}
    for result in results:
        counts = {name: counts.get(name, 0) + result.counts.get(name, 0) for name in counts | result.counts}
    proofs = {
        "documents": reconcile("filter", workspace, shards, counts),
        "bounds": [[label, *step.bounds_of(label)] for step in config.cascade for label in step.labels],
    }
    examples = first_examples(example for result in results for example in result.examples)
    return Summary(counts=counts, proofs=proofs, examples=examples)


def finished(job: ShardJob) -> ShardResult | None:
    """The result of a shard that an earlier attempt completed, None if it has to be done."""
    try:
        result = ShardResult.model_validate_json(job.record.read_bytes())
        whole = (job.folder / result.entry.name).stat().st_size == result.entry.bytes
    except (FileNotFoundError, ValidationError):
        return None
    return result if whole and job.part("ledger").exists() and job.part("edits").exists() else None


def filter_shard(job: ShardJob, score_ahead: ScoreAhead | None = None) -> ShardResult:
    """Filters one shard; score_ahead: as in `judge`."""
    statistics, split = open_statistics(job.statistics), split_of(job.shard)
    portions = (sift(table, job.config, statistics, split, score_ahead) for table in row_groups(job.shard))
    return write_shard(job, portions)


def write_shard(job: ShardJob, portions: Iterable[Sifted]) -> ShardResult:
    """Writes what became of a shard. Its files get their names when they are whole, its record when all of them have.

    The bytes do not depend on how the rows are divided into portions.
    """
    name = f"documents/{job.shard.name}"
    schemas = {"kept": DOCUMENTS, "ledger": LEDGER, "edits": EDITS}
    counts: Counter[str] = Counter(dict.fromkeys(_COUNTS, 0))
    examples: list[dict[str, Any]] = []
    histograms: list[dict[str, np.ndarray]] = [{} for _ in job.config.cascade]
    with TemporaryDirectory(dir=job.scratch) as attempt:
        with ExitStack() as stack:
            files = {kind: stack.enter_context(HashingFile(Path(attempt, kind))) for kind in schemas}
            writers = {kind: GroupWriter(_parquet(stack, files[kind], rows), rows) for kind, rows in schemas.items()}
            for sifted in portions:
                for kind, rows in sifted.tables.items():
                    writers[kind].write(rows)
                examples = first_examples([*examples, *examples_of(sifted.tables["ledger"])])
                counts.update(sifted.counts)
                add_bins(histograms, sifted.histograms)
            for writer in writers.values():
                writer.finish()
        (job.folder / "documents").mkdir(exist_ok=True)
        files["kept"].path.replace(job.folder / name)
        for kind in ("ledger", "edits"):
            files[kind].path.replace(job.part(kind))
    result = ShardResult(
        entry=files["kept"].entry(name),
        counts=dict(counts),
        examples=examples,
        histograms=[{label: bins.tolist() for label, bins in step.items()} for step in histograms],
    )
    write_whole(job.record, result.model_dump_json())
    return result


def _parquet(stack: ExitStack, file: HashingFile, schema: pa.Schema) -> pq.ParquetWriter:
    return stack.enter_context(pq.ParquetWriter(file, schema, **PARQUET_OPTIONS))


_COUNTS = (
    "num_documents_in",
    "num_documents_kept",
    "num_documents_removed",
    "num_documents_normalized",
    "num_documents_edited",
    "num_characters_in",
    "num_characters_normalized_away",
    "num_characters_edited_away",
    "num_characters_kept",
    "num_characters_removed",
)


class Sifted(NamedTuple):
    """What became of one row group: `kept`, `ledger` and `edits` rows, counts, and per step the bins of its labels."""

    tables: dict[str, pa.Table]
    counts: dict[str, int]
    histograms: list[dict[str, np.ndarray]]


def sift(
    table: pa.Table,
    config: FilterConfig,
    statistics: dict[str, pa.Table],
    split: str,
    score_ahead: ScoreAhead | None = None,
) -> Sifted:
    """What becomes of documents. table: DOCUMENTS rows; statistics: tables by name; split: that of the documents;
    score_ahead: as in `judge`."""
    raw = table["text"].combine_chunks()
    cleaned, changed = normalize_texts(raw, config.normalization)
    verdict = judge(config.cascade, Batch(table["id"].combine_chunks(), cleaned, statistics), score_ahead)
    table = table.set_column(table.schema.get_field_index("text"), DOCUMENTS.field("text"), verdict.texts)
    stays = verdict.rejected_by == KEPT
    kept, removed = table.filter(pa.array(stays)), table.filter(pa.array(~stays))
    labels = [
        config.cascade[step].labels[label]
        for step, label in zip(verdict.rejected_by[~stays], verdict.label[~stays], strict=True)
    ]
    edits = pa.concat_tables([EDITS.empty_table(), *(_with_split(rows, split) for rows in verdict.edits)])
    edited = len(set(edits["id"].to_pylist()))
    before, after, left = num_characters(raw), num_characters(cleaned), num_characters(verdict.texts)
    counts = {f"removed_by_{name}": number for name, number in Counter(labels).items()}
    counts |= dict(
        zip(
            _COUNTS,
            (
                *(len(cleaned), kept.num_rows, removed.num_rows, int(np.count_nonzero(changed)), edited),
                *(before, before - after, after - left),
                *(num_characters(kept["text"]), num_characters(removed["text"])),
            ),
            strict=True,
        )
    )
    tables = {"kept": kept, "ledger": _ledger(config, verdict, removed, labels, split), "edits": edits}
    return Sifted(tables, counts, _bins(config, verdict))


def _with_split(rows: pa.Table, split: str) -> pa.Table:
    return rows.append_column("split", pa.repeat(split, rows.num_rows)).select(EDITS.names).cast(EDITS)


def _ledger(config: FilterConfig, verdict: Verdict, removed: pa.Table, labels: list[str], split: str) -> pa.Table:
    gone = verdict.rejected_by != KEPT
    score, threshold = verdict.score[gone], verdict.threshold[gone]
    reasons = [
        config.cascade[step].reason(label, s, t)
        for step, label, s, t in zip(verdict.rejected_by[gone], labels, score.tolist(), threshold.tolist(), strict=True)
    ]
    notes = (verdict.notes.get(document) for document in np.flatnonzero(gone).tolist())
    reasons = [f"{reason}: {note}" if note else reason for reason, note in zip(reasons, notes, strict=True)]
    return ledger_rows(
        removed,
        split,
        filter=pa.array(labels, pa.string()),
        score=score,
        threshold=threshold,
        reason=pa.array(reasons, pa.string()),
    )


def _bins(config: FilterConfig, verdict: Verdict) -> list[dict[str, np.ndarray]]:
    bins: list[dict[str, np.ndarray]] = [{} for _ in config.cascade]
    for (step, label), scores in verdict.scores.items():
        bins[step][label] = histogram(scores, config.cascade[step].scale_of(label))
    return bins


def add_bins(totals: list[dict[str, np.ndarray]], bins: list[dict[str, np.ndarray]]) -> None:
    """Adds the bins of each step and label to those of the same step and label."""
    for total, more in zip(totals, bins, strict=True):
        for label, values in more.items():
            total[label] = total[label] + values if label in total else values
