"""The real Uzushio, run by spark-submit over all documents of a corpus: parquet in, parquet out."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from data_contracts.errors import ConfigError, ReconciliationError, UsageError, WorkerError, WorkerLost
from data_contracts.files import hash_file
from tasks.curation.config import FilterConfig
from tasks.curation.documents import row_groups
from tasks.curation.filters.base import KEPT, Batch, Outcome, edits_table
from tasks.curation.filters.uzushio_jar import RESULT, UzushioJar
from tasks.curation.normalization import normalize_texts
from tasks.curation.uzushio.paragraphs import SEPARATOR
from tasks.runtime import Runtime
from tasks.workspace import Workspace

MAIN_CLASS = "com.worksap.nlp.uzushio.main.DeduplicateParagraphs"
EXECUTION = "reprHashes,stats,filter-debug"
"""Paragraph frequencies, then the filters; what they remove is written too, in a folder for each filter."""

KEPT_FOLDER = "null"
SILENT_BYTES, SILENT_PARAGRAPHS = 2 << 20, 1000
TAIL_BYTES = 4096

INPUT = pa.schema([("docId", pa.string()), ("text", pa.string())])
WRITTEN = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("text", pa.string()),  # null for a document of which nothing is kept
        pa.field("filters", pa.list_(pa.string())),  # that removed the document or paragraphs of it
        pa.field("removed", pa.list_(pa.string())),  # what they removed
    ]
)


def run_jar(config: FilterConfig, workspace: Workspace, shards: Sequence[Path]) -> dict[str, Path]:
    """What Uzushio wrote, as an Arrow file by the name RESULT; nothing if no step of the cascade asks for it.

    Raises ConfigError if its step is not the first, UsageError if jar or spark-submit are absent or another jar is
    there, WorkerError with the end of its messages if it fails, WorkerLost if it is killed.
    """
    steps = [step for step in config.cascade if isinstance(step, UzushioJar)]
    if not steps:
        return {}
    if steps != [config.cascade[0]]:
        raise ConfigError(
            "`filters.cascade`: found `uzushio_jar` behind another step or twice, expected it once, as the first",
            hint="the jar sees all documents before any other step; put further filters behind it",
        )
    path = workspace.scratch / f"{RESULT}.statistic.arrow"
    if not path.is_file():
        submit, jar = _programs(workspace.runtime, steps[0])
        # A folder of its own: whoever was killed while writing one leaves it.
        folder = Path(mkdtemp(dir=workspace.scratch, prefix="uzushio-"))
        ids = _write_input(config, shards, folder / "input")
        _submit(_command(submit, jar, steps[0], folder, workspace.runtime), folder)
        _write(_read_output(folder / "output", ids), path)
    return {RESULT: path}


def outcome_of(batch: Batch, written: pa.Table) -> Outcome:
    """The outcome of the step for a batch, by what Uzushio wrote of all documents."""
    places = pc.index_in(batch.ids, value_set=written["id"])
    rows = written.take(places)
    texts = rows["text"].combine_chunks()
    lost = pc.is_null(texts).to_numpy(zero_copy_only=False)
    nothing = np.full(len(lost), np.nan)
    return Outcome(
        rejected=np.where(lost, 0, KEPT),
        score=np.where(lost, 0.0, nothing),
        threshold=np.where(lost, 1.0, nothing),
        texts=pc.coalesce(texts, batch.texts),
        scores={RESULT: np.where(lost, 0.0, 1.0)},
        edits=_edits(batch, rows),
        notes={
            row: _note(batch.texts[row].as_py(), rows["filters"][row].as_py()) for row in np.flatnonzero(lost).tolist()
        },
    )


def _edits(batch: Batch, rows: pa.Table) -> pa.Table | None:
    changed = pc.fill_null(pc.not_equal(rows["text"], batch.texts), False)
    edits = []
    for row in np.flatnonzero(changed.to_numpy()).tolist():
        before, after = batch.texts[row].as_py(), rows["text"][row].as_py()
        pieces = rows["removed"][row].as_py() or []
        edit: dict[str, Any] = {"id": batch.ids[row].as_py(), "filter": RESULT, "num_places": max(1, len(pieces))}
        edits.append(edit | {"num_characters_removed": len(before) - len(after), "removed": "\n".join(pieces)})
    return edits_table(edits) if edits else None


def _note(text: str, filters: list[str] | None) -> str:
    if filters:
        return f"removed by {', '.join(dict.fromkeys(filters))}"
    if len(text.encode()) >= SILENT_BYTES or text.count(SEPARATOR) + 1 >= SILENT_PARAGRAPHS:
        return "it has 2 MiB or 1,000 paragraphs or more; Uzushio leaves out such documents silently"
    return "it does not say why; texts that are empty after cleaning are not written"


def _programs(runtime: Runtime, step: UzushioJar) -> tuple[Path, Path]:
    found = {"TSUZUKI_SPARK_SUBMIT": runtime.spark_submit, "TSUZUKI_UZUSHIO_JAR": runtime.uzushio_jar}
    for name, path in found.items():
        if path is None or not path.is_file():
            told = "it is not set" if path is None else f"no such file `{path}`"
            raise UsageError(
                f"`{name}`: {told}, expected the path of {'spark-submit' if 'SPARK' in name else 'the Uzushio jar'}",
                hint=f"set {name}, or use the step `uzushio`, which needs neither Spark nor the jar",
            )
    submit, jar = runtime.spark_submit, runtime.uzushio_jar
    assert submit is not None and jar is not None
    sha256 = hash_file(jar).sha256
    if sha256 != step.jar_sha256:
        raise UsageError(
            f"`{jar}`: found a jar with the SHA-256 {sha256}, expected {step.jar_sha256} as in `jar_sha256`",
            hint="point TSUZUKI_UZUSHIO_JAR to that jar, or change the config",
        )
    return submit, jar


def _write_input(config: FilterConfig, shards: Sequence[Path], folder: Path) -> pa.Array:
    """Writes normalised documents, one file a shard; their ids."""
    folder.mkdir()
    ids = []
    for shard in shards:
        with pq.ParquetWriter(folder / shard.name, INPUT) as writer:
            for table in row_groups(shard, ["id", "text"]):
                texts, _ = normalize_texts(table["text"].combine_chunks(), config.normalization)
                ids.append(table["id"].combine_chunks())
                writer.write_table(pa.table([ids[-1], texts], schema=INPUT))
    return pa.concat_arrays([pa.array([], pa.string()), *ids])


def _command(submit: Path, jar: Path, step: UzushioJar, folder: Path, runtime: Runtime) -> list[str]:
    values = {**step.variables, **{name: str(path.absolute()) for name, path in step.files.items()}}
    return [
        *(str(submit), "--class", MAIN_CLASS, "--master", f"local[{runtime.workers}]", str(jar)),
        *(f"--input={folder / 'input'}", f"--output={folder / 'output'}"),
        *(f"--execution={EXECUTION}", f"--filters={step.filters.absolute()}", "--text-only"),
        *(f"-P{name}={value}" for name, value in sorted(values.items())),
    ]


def _submit(command: list[str], folder: Path) -> None:
    """Runs it in a process group of its own, which ends with it, however it ends."""
    log = folder / "messages.log"
    with open(log, "wb") as messages:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages, start_new_session=True
        )
        try:
            code = process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        tail = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
        ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise (WorkerLost if code < 0 else WorkerError)(
            f"`{command[0]}`: ended with {ended}\n{tail}", hint="the command was: " + " ".join(command)
        )


def _read_output(folder: Path, ids: pa.Array) -> pa.Table:
    """WRITTEN rows of all documents that Uzushio wrote something of. Raises ReconciliationError for unknown ids."""
    partitions = ds.partitioning(pa.schema([("filter", pa.string())]), flavor="hive")
    if not folder.is_dir() or not any(folder.rglob("*.parquet")):
        raise WorkerError(
            f"`{folder}`: found no parquet files, expected what Uzushio wrote",
            hint="see messages.log beside that folder",
        )
    found = ds.dataset(folder, format="parquet", partitioning=partitions).to_table(columns=["docId", "text", "filter"])
    found = found.sort_by([("docId", "ascending"), ("filter", "ascending"), ("text", "ascending")])
    kept = pc.equal(found["filter"], KEPT_FOLDER)
    texts = found.filter(kept)
    unknown = pc.sum(pc.invert(pc.is_in(found["docId"], value_set=ids))).as_py()
    if unknown or pc.count_distinct(texts["docId"]).as_py() != texts.num_rows:
        raise ReconciliationError(
            f"`uzushio_jar`: found {unknown or 0} rows with ids that were not handed in, or an id twice, "
            "expected ids that were, each kept once at most",
            hint="something else writes to the same folder, or the jar changes ids",
        )
    groups = found.filter(pc.invert(kept)).group_by("docId", use_threads=False)
    removed = groups.aggregate([("filter", "list"), ("text", "list")])
    every = pc.unique(found["docId"])
    kept_at, removed_at = (pc.index_in(every, value_set=table["docId"]) for table in (texts, removed))
    columns = (texts["text"].take(kept_at), *(removed[name].take(removed_at) for name in ("filter_list", "text_list")))
    return pa.table([every, *columns], names=WRITTEN.names).cast(WRITTEN)


def _write(table: pa.Table, path: Path) -> None:
    partial = path.with_suffix(".partial")
    with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    partial.rename(path)
