"""One stage as a Prefect task: retried when that can help, Cached when the store holds it, told in artifacts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.runtime import task_run

from data_contracts.artifacts import Artifact
from data_contracts.errors import TsuzukiError
from data_contracts.files import digest_of
from flows.events import StageEvents
from flows.gpu_slot import gpu_slot, needs_gpu
from flows.outage import tell
from flows.progress_words import progress_words
from flows.runs import Run
from flows.stage_markdown import stage_markdown
from tasks.stage import Request, Stage
from tasks.store import Built, Status

PROGRESS_SECONDS = 5.0
"""A bar in the UI is moved at most that often, and made only for a stage that runs longer."""
TABLE_SECONDS = 240.0
"""So long is a server waited for that is away when a stage is sealed; the next stage needs it anyway."""


@dataclass
class PrefectRun(Run):
    """A Run whose every stage is a Prefect task.

    The store is the truth: Prefect may only look into its own cache where the artifact is sealed and whole, so that a
    Cached state always stands for data that is there.
    """

    title: str = ""
    tags: tuple[str, ...] = ("tsuzuki",)
    gpu_limit: str = "tsuzuki-gpu"
    labels: Mapping[str, str] = field(default_factory=dict)

    def build(self, request: Request, rebuild: bool) -> Built:
        stage = request.stage
        build_stage = task(
            name=stage.name,
            task_run_name=f"{stage.name}: {self.title}",
            description=stage.summary,
            # The same for all stages of a run: Prefect asks the server about each new set, which may be busy for 2 s.
            tags=self.tags,
            retries=stage.retries,
            retry_delay_seconds=list(stage.retry_delays_seconds[: stage.retries]) or None,
            retry_jitter_factor=0.5 if stage.retries else None,
            retry_condition_fn=_may_pass,
            persist_result=True,
            cache_policy=CacheKeyFnPolicy(cache_key_fn=lambda context, parameters: self._cache_key(request)),
            # Not a key that is None while unsealed: the result would then be recorded only by the second run.
            refresh_cache=rebuild or self.store.find(request) is None,
        )(self._build_and_tell)
        state = build_stage(request.key, rebuild, _Hidden(request), return_state=True)
        path, status = state.result()
        return Built(Path(path), "cached" if state.name == "Cached" else status)

    def _cache_key(self, request: Request) -> str:
        # The store is named too: the same key in another store is other data. Prefect makes a file name of this.
        return f"{request.stage.name}-{digest_of([str(self.store.root.resolve()), request.key])}"

    def _build_and_tell(self, key: str, rebuild: bool, hidden: _Hidden) -> tuple[str, Status]:
        events = self._events_of(hidden.request)
        with events.told_of_failure(), self._gpu_for(hidden.request, rebuild):
            built = Run.build(self, hidden.request, rebuild)
        artifact = hidden.request.stage.output.open(built.path)
        if built.status != "cached":
            _tell(hidden.request.stage, artifact)
            events.sealed(artifact.manifest, built.status)
        return str(built.path), built.status

    def _gpu_for(self, request: Request, rebuild: bool) -> AbstractContextManager[None]:
        # Before the store's lock: who waits for the GPU must not keep others from what is being built.
        if needs_gpu(request, self.runtime) and (rebuild or self.store.find(request) is None):
            return gpu_slot(self.gpu_limit, UUID(str(task_run.id)))
        return nullcontext()

    def _events_of(self, request: Request) -> StageEvents:
        return StageEvents(request, self.title, self.labels)

    def progress_of(self, request: Request) -> Any:
        return _ProgressInUi(request.stage, Run.progress_of(self, request), self._events_of(request))


@dataclass(frozen=True)
class _Hidden:
    """Keeps Prefect from walking through a request's artifacts when it looks for futures among the parameters."""

    request: Request

    def __repr__(self) -> str:
        return f"{self.request.stage.name} {self.request.key[:12]}"


def _may_pass(task: Any, task_run: Any, state: Any) -> bool:
    """Only failures for outside reasons are tried again: a wrong config or damaged data stays wrong."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, TsuzukiError) and error.retryable


def _tell(stage: Stage, artifact: Artifact) -> None:
    key, markdown = f"tsuzuki-{stage.name.replace('_', '-')}", stage_markdown(artifact.manifest, artifact.path)
    tell(
        f"the table of {stage.name}",
        lambda: create_markdown_artifact(key=key, markdown=markdown, description=stage.summary),
        TABLE_SECONDS,
    )


class _ProgressInUi:
    """A progress that also moves a progress artifact in the Prefect UI, and emits a training's events."""

    def __init__(self, stage: Stage, inner: Any, events: StageEvents) -> None:
        self.stage, self.inner, self.events = stage, inner, events
        self.artifact_id: Any = None
        self.told = time.monotonic()

    def __call__(self, done: int, total: int | None = None, unit: str = "documents", **figures: Any) -> None:
        self.inner(done, total, unit, **figures)
        self.events.progress(done, total, unit, figures)
        if not total or time.monotonic() - self.told < PROGRESS_SECONDS:
            return
        self.told = time.monotonic()
        percent = min(100.0, 100.0 * done / total)
        told = f"{self.stage.name}: {progress_words(done, total, unit, figures)}"
        if self.artifact_id is None:
            key = f"tsuzuki-{self.stage.name.replace('_', '-')}-progress"
            say = partial(create_progress_artifact, percent, key=key, description=told)
            self.artifact_id = tell("progress", say)
        else:
            tell("progress", partial(update_progress_artifact, self.artifact_id, percent, description=told))
