"""One stage as a Prefect task: retried when that can help, Cached when the store holds it, told in artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_run_logger, task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.runtime import task_run

from data_contracts.errors import TsuzukiError
from data_contracts.files import digest_of
from flows.events import StageEvents
from flows.runs import Run
from flows.service.gpu_slot import gpu_slot, needs_gpu
from flows.ui.artifacts import show_report, show_stage
from flows.ui.failures import told_in_log
from flows.ui.markdown import logged_line
from flows.ui.progress import ProgressBar
from tasks.stage import Request
from tasks.stages import DELIVER
from tasks.store import Built, Status


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
    reports_url: str | None = None
    bars: dict[str, ProgressBar] = field(default_factory=dict)

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
        if stage.name == DELIVER.name:
            # Of a cached one too: who runs it again wants to read it.
            show_report(stage.output.open(path), self.reports_url)
        return Built(Path(path), "cached" if state.name == "Cached" else status)

    def _cache_key(self, request: Request) -> str:
        # The store is named too: the same key in another store is other data. Prefect makes a file name of this.
        return f"{request.stage.name}-{digest_of([str(self.store.root.resolve()), request.key])}"

    def _build_and_tell(self, key: str, rebuild: bool, hidden: _Hidden) -> tuple[str, Status]:
        events = self._events_of(hidden.request)
        with told_in_log(), events.told_of_failure(), self._gpu_for(hidden.request, rebuild):
            built = Run.build(self, hidden.request, rebuild)
        artifact = hidden.request.stage.output.open(built.path)
        bar = self.bars.pop(key, None)
        if built.status != "cached":
            if bar is not None:
                bar.end(artifact.path)
            show_stage(hidden.request.stage, artifact, self.store, built.status)
            events.sealed(artifact.manifest, built.status)
            get_run_logger().info(logged_line(artifact.manifest, artifact.path, built.status))
        return str(built.path), built.status

    def _gpu_for(self, request: Request, rebuild: bool) -> AbstractContextManager[None]:
        # Before the store's lock: who waits for the GPU must not keep others from what is being built.
        if needs_gpu(request, self.runtime) and (rebuild or self.store.find(request) is None):
            return gpu_slot(self.gpu_limit, UUID(str(task_run.id)))
        return nullcontext()

    def _events_of(self, request: Request) -> StageEvents:
        return StageEvents(request, self.title, self.labels)

    def progress_of(self, request: Request) -> Any:
        bar = ProgressBar(request.stage, self.store.partial(request))
        self.bars[request.key] = bar
        return _Progress(Run.progress_of(self, request), bar, self._events_of(request))


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


@dataclass(frozen=True)
class _Progress:
    """A progress that the reporter, the UI and the event feed hear of."""

    inner: Any
    bar: ProgressBar
    events: StageEvents

    def __call__(self, done: int, total: int | None = None, unit: str = "documents", **figures: Any) -> None:
        self.inner(done, total, unit, **figures)
        self.events.progress(done, total, unit, figures)
        self.bar.move(done, total, unit, figures)
