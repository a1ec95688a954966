"""The Curator engine of the filter stage, in our interpreter: starts the worker in Curator's, and takes its shards."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_contracts.errors import MissingPackage, UsageError, WorkerError
from tasks.curation.config import FilterConfig
from tasks.job import Event, run_worker
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from tasks.curation.filtering import ShardJob, Take

INSTALL_HINT = "`make curator` installs it; then set TSUZUKI_CURATOR_PYTHON=.venv-bench/bin/python"
WORKER = "tasks.curation.engines.curator_worker:filter_shards"


def filter_on_curator(jobs: Sequence[ShardJob], config: FilterConfig, workspace: Workspace, take: Take) -> None:
    """Filters shards with a Curator pipeline in Curator's interpreter; `take` hears of each as soon as it is done.

    What the worker writes has the bytes that the local engine writes. Raises what the steps raise, MissingPackage and
    UsageError when that interpreter is absent or would write other bytes, WorkerError for other failures.
    """
    from tasks.curation.filtering import finished

    if not jobs:
        return
    waiting = {job.shard.stem: job for job in jobs}

    def note(event: Event) -> None:
        job = waiting.pop(event["shard"])
        result = finished(job)
        if result is None:
            raise WorkerError(f"`{job.shard}`: Curator's worker told that it is done, and left no whole shard")
        take(job, result)

    python = curator_python(workspace.runtime.curator_python)
    for job in jobs:
        job.record.unlink(missing_ok=True)  # one without its files is what a killed attempt left
    run_worker(WORKER, _arguments(jobs, config, workspace), workspace, note, python)
    if waiting:
        raise WorkerError(f"Curator's worker ended without the shards {', '.join(sorted(waiting))}")


def curator_python(python: Path | None) -> Path:
    """The interpreter with Curator; MissingPackage when none is named, UsageError when it is no program."""
    if python is None:
        raise MissingPackage("`engine curator`: found no interpreter with NeMo Curator", hint=INSTALL_HINT)
    if not os.access(python, os.X_OK) or not python.is_file():
        raise UsageError(
            f"`TSUZUKI_CURATOR_PYTHON`: found {python}, expected an interpreter with NeMo Curator", hint=INSTALL_HINT
        )
    return python.absolute()  # not resolved: a virtual environment is known by the path of its link


def what_decides_bytes() -> dict[str, str]:
    """Versions that must agree for two interpreters to write equal bytes: of the parquet writer and of Unicode."""
    import pyarrow as pa

    return {"pyarrow": pa.__version__, "Unicode": unicodedata.unidata_version}


def _arguments(jobs: Sequence[ShardJob], config: FilterConfig, workspace: Workspace) -> dict[str, object]:
    runtime = workspace.runtime
    return {
        "shards": [str(job.shard.resolve()) for job in jobs],
        "config": config.model_dump(mode="json"),
        "folder": str(workspace.path.resolve()),
        "scratch": str(workspace.scratch.resolve()),
        "statistics": {name: str(path.resolve()) for name, path in jobs[0].statistics.items()},
        "current": str(Path.cwd()),
        "workers": runtime.workers,
        "address": runtime.ray_address,
        "versions": what_decides_bytes(),
    }
