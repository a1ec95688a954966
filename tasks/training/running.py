"""Runs a training job in its worker and shows what the worker tells: progress, warnings, WandB."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_contracts.errors import ConfigError, MissingPackage
from data_contracts.manifest import Summary
from tasks.job import run_worker
from tasks.runtime import Runtime
from tasks.training.backends import TrainingJob, TrainingResult, backend_function
from tasks.training.config import OptimizationConfig
from tasks.training.executors import ExecutorSettings
from tasks.training.tracking import Track, tracking
from tasks.workspace import Workspace

log = logging.getLogger(__name__)
TRACKED = ("loss", "validation_loss", "learning_rate", "gradient_norm", "tokens_consumed", "epoch", "tokens_per_second")


def run_training(
    job: TrainingJob, workspace: Workspace, *, project: str, description: dict[str, Any] | None = None
) -> Summary:
    """What the job's backend counted and proved. Raises ConfigError, MissingPackage, and whatever the worker raises.

    project: WandB project; description: further fields of the WandB run's config.
    """
    function = backend_function(job.config)
    described = {"task": job.task, **job.config.model_dump(mode="json"), **(description or {})}
    with tracking(workspace.runtime.wandb, project, described, workspace) as track:
        arguments = {"job": job.model_dump(mode="json"), **_executor(job, workspace.runtime)}
        python = interpreter_of(job.config.backend, workspace.runtime)
        told = run_worker(function, arguments, workspace, _teller(workspace, track), python)
        result = TrainingResult.model_validate(told)
    return Summary(counts=result.counts, proofs=result.proofs)


def _executor(job: TrainingJob, runtime: Runtime) -> dict[str, Any]:
    """What backend nemo gets besides its job. Raises ConfigError unless the executor starts the job's processes."""
    check_layout(job.config, runtime.executor)
    if not job.config.nemo:
        return {}
    return {
        "executor": runtime.executor.model_dump(mode="json"),
        "grace_seconds": runtime.cancel_grace_seconds,
    }


def check_layout(config: OptimizationConfig, executor: ExecutorSettings) -> None:
    """Raises ConfigError unless the executor starts the processes that a training on backend nemo asks for."""
    nemo, layout = config.nemo, executor.layout
    if nemo and (layout.nodes, layout.processes_per_node) != (nemo.num_nodes, nemo.num_gpus):
        raise ConfigError(
            f"`executor {executor.kind}`: starts {layout.nodes} x {layout.processes_per_node} processes, the "
            f"config asks for nemo.num_nodes {nemo.num_nodes} x nemo.num_gpus {nemo.num_gpus}",
            hint="set TSUZUKI_EXECUTOR to a block with that many (examples lie in infra/executors/), or change `nemo`",
        )


def interpreter_of(backend: str, runtime: Runtime) -> Path:
    """The interpreter that a backend's worker runs in. Raises MissingPackage where none is set for `nemo`."""
    if backend != "nemo":
        return runtime.worker_python
    if runtime.nemo_python is None:
        raise MissingPackage(
            "`backend`: found nemo, and no interpreter that has NeMo",
            hint="make nemo-env, and set TSUZUKI_NEMO_PYTHON as it says",
        )
    return runtime.nemo_python


def _teller(workspace: Workspace, track: Track) -> Callable[[dict[str, Any]], None]:
    """The function that shows events; validation figures stay on the progress until the next ones."""
    shown: dict[str, Any] = {}
    steps: list[int] = []

    def tell(event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "warning":
            log.warning("%s", event["message"])
            return
        if kind == "start":
            steps.append(event["steps"])
        figures = {name: event[name] for name in TRACKED if name in event}
        if figures:
            track(event["step"], figures)
            shown.update(figures)
        workspace.progress(event["step"], steps[0] if steps else None, unit="steps", **shown)

    return tell
