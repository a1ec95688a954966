"""What calling a stage means in a run: its artifact is found in the store, or built; and the lineage of one."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from data_contracts.artifacts import Artifact, Part
from data_contracts.manifest import Manifest, read_manifest
from tasks.runtime import Runtime
from tasks.stage import Request, Stage
from tasks.store import Built, Status, Store


class Stopped(Exception):
    """The run has reached the stage it was asked to stop after."""


class Reporter:
    """Hears of a run's stages; this one keeps silent. The CLI sets one that prints and shows bars."""

    def started(self, stage: Stage) -> None:
        pass

    def waiting(self, stage: Stage) -> None:
        pass

    def progress(self, stage: Stage, done: int, total: int | None, unit: str, figures: dict[str, Any]) -> None:
        pass

    def finished(self, stage: Stage, status: Status, path: Path, seconds: float) -> None:
        pass


reporter: ContextVar[Reporter] = ContextVar("reporter", default=Reporter())  # noqa: B039 - it holds no state


@dataclass
class Run:
    """Builds each stage it is called with, in this process.

    rebuild_from: name of a stage that is built again even if the store holds it, with all that depends on it; of these,
    what was sealed since `began` is this run's own work, done before it was interrupted, and stays.
    until: name of the last stage; Stopped is raised after it.
    """

    runtime: Runtime
    rebuild_from: str | None = None
    until: str | None = None
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    renewed: set[Path] = field(default_factory=set)

    @property
    def store(self) -> Store:
        return Store(self.runtime.store)

    def __call__(self, stage: Stage, config: BaseModel, **inputs: Artifact | Part) -> Any:
        """The opened artifact of that stage; raises what its body raises."""
        request = Request.of(stage, config, inputs)
        renewed = stage.name == self.rebuild_from or any(value.path in self.renewed for value in inputs.values())
        rebuild = renewed and not self._sealed_by_this_run(request)
        reporter.get().started(stage)
        started = time.monotonic()
        built = self.build(request, rebuild)
        artifact = stage.output.open(built.path)
        if renewed:
            self.renewed.add(artifact.path)
        reporter.get().finished(stage, built.status, built.path, time.monotonic() - started)
        if stage.name == self.until:
            raise Stopped
        return artifact

    def _sealed_by_this_run(self, request: Request) -> bool:
        found = self.store.find(request)
        return found is not None and found.manifest.created_at >= self.began

    def build(self, request: Request, rebuild: bool) -> Built:
        return self.store.build(
            request,
            self.runtime,
            self.progress_of(request),
            rebuild=rebuild,
            on_wait=lambda: reporter.get().waiting(request.stage),
        )

    def progress_of(self, request: Request) -> Callable[..., None]:
        listener, stage = reporter.get(), request.stage

        def progress(done: int, total: int | None = None, unit: str = "documents", **figures: Any) -> None:
            listener.progress(stage, done, total, unit, figures)

        return progress


def lineage(store: Store, path: Path) -> list[tuple[Path, Manifest]]:
    """An artifact and everything it was made from, nearest first, each once. Raises MissingArtifact on a gap."""
    found: dict[Path, Manifest] = {}
    queue = [path]
    while queue:
        current = queue.pop(0)
        if current in found:
            continue
        manifest = found[current] = read_manifest(current)
        for reference in manifest.inputs.values():
            if reference.stage and reference.key:
                queue.append(store.locate(reference.stage, reference.key, reference.digest))
    return list(found.items())
