"""What a run tells Prefect's event feed: stages sealed, failed and resumed, and how far a training has come.

Events go through Prefect's own queue in the background, which its task states use too: a server that is down or slow
neither fails nor delays a stage; what cannot be sent is lost.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prefect.events import emit_event
from prefect.runtime import task_run

from data_contracts.errors import TsuzukiError
from data_contracts.manifest import Manifest
from infra.credentials import Credentials
from infra.settings import load_settings
from tasks.stage import Request
from tasks.store import Status

SEALED = "tsuzuki.stage.sealed"
FAILED = "tsuzuki.stage.failed"
RESUMED = "tsuzuki.stage.resumed"
PROGRESS = "tsuzuki.training.progress"
PROGRESS_SECONDS = 15.0
"""A training tells of itself at most that often."""
MAX_CHARACTERS = 2000
"""Longer texts are cut: an error may quote a document."""
MAX_COUNTS = 100
MAX_LABEL = 300
TRAINING_FIGURES = ("loss", "validation_loss", "learning_rate", "tokens_consumed", "tokens_per_second")
USER_IN_URL = re.compile(r"://[^/@\s]+@")


@dataclass
class StageEvents:
    """Emits the events of one use of a stage; Prefect adds the flow run, task run and deployment as related resources.

    labels: what automations may select by, such as recipe and source.
    """

    request: Request
    title: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    told: float = 0.0

    @contextmanager
    def told_of_failure(self) -> Iterator[None]:
        """Emits one `failed` event for an error raised inside, which passes on. To be cancelled is no failure."""
        started = time.monotonic()
        try:
            yield
        except Exception as error:
            words, attempt = error_words(error), task_run.run_count or 1
            again = words["retryable"] and attempt <= self.request.stage.retries
            figures = {"attempt": attempt, "seconds": round(time.monotonic() - started, 3)}
            self._emit(FAILED, {**words, **figures}, {"tsuzuki.tried_again": str(again).lower()})
            raise

    def sealed(self, manifest: Manifest, status: Status) -> None:
        """Emits `sealed` for an artifact that is new, and `resumed` before it if an earlier attempt had begun it."""
        if status == "cached":
            return
        figures = {
            "status": status,
            "seconds": manifest.seconds,
            "counts": dict(list(manifest.summary.counts.items())[:MAX_COUNTS]),
            "num_files": len(manifest.files),
            "num_bytes": sum(entry.bytes for entry in manifest.files),
        }
        data = ", ".join(source.name for source in manifest.sources)
        labels = {"tsuzuki.digest": manifest.digest, "tsuzuki.data": data[:MAX_LABEL]}
        if status == "resumed":
            self._emit(RESUMED, figures, labels)
        self._emit(SEALED, figures, labels)

    def progress(self, done: int, total: int | None, unit: str, figures: Mapping[str, Any]) -> None:
        """Emits `tsuzuki.training.progress` where a training tells of a step, at most every PROGRESS_SECONDS."""
        if unit != "steps" or "loss" not in figures or time.monotonic() - self.told < PROGRESS_SECONDS:
            return
        self.told = time.monotonic()
        shown = {name: figures[name] for name in TRAINING_FIGURES if name in figures}
        self._emit(PROGRESS, {"step": done, "steps": total, **shown})

    def _emit(self, event: str, payload: dict[str, Any], labels: Mapping[str, str] | None = None) -> None:
        stage = self.request.stage.name
        resource = {
            "prefect.resource.id": f"tsuzuki.stage.{stage}",
            "prefect.resource.name": stage,
            "tsuzuki.stage": stage,
            "tsuzuki.title": self.title,
            "tsuzuki.key": self.request.key,
            **self.labels,
            **(labels or {}),
        }
        emit_event(event, resource, payload=payload)


def error_words(error: BaseException) -> dict[str, Any]:
    """Kind, message and hint of an error, without the secrets of this process, and cut where they are long."""
    ours = isinstance(error, TsuzukiError)
    return {
        "error": type(error).__name__,
        "message": _shown(error.message if ours else str(error)),
        "hint": _shown(error.hint if ours else ""),
        "retryable": ours and error.retryable,
    }


def _shown(text: str) -> str:
    for secret in _secrets():
        text = text.replace(secret, "***")
    text = USER_IN_URL.sub("://***@", text)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


def _secrets() -> list[str]:
    values = [*dict(Credentials()).values(), *dict(load_settings()).values()]
    found = [value.get_secret_value() for value in values if hasattr(value, "get_secret_value")]
    # The longest first: one may hold another.
    return sorted(filter(None, found), key=len, reverse=True)
