"""How far a stage has come, as a bar in the Prefect UI, and the link to its curves at WandB as soon as there is one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.progress_words import progress_words
from flows.service.outage import tell
from flows.ui.artifacts import artifact_key, show_wandb
from tasks.stage import Stage

PROGRESS_SECONDS = 5.0
"""A bar is moved at most that often, and made only for a stage that runs longer."""


@dataclass
class ProgressBar:
    """A bar for each kind of work that a stage does: one for the bytes of a download, another for its documents.

    folder: where the stage writes.
    """

    stage: Stage
    folder: Path
    unit: str = ""
    artifact_id: UUID | None = None
    percent: float = 0.0
    words: str = ""
    wandb_shown: bool = False
    told: float = field(default_factory=time.monotonic)

    def move(self, done: int, total: int | None, unit: str, figures: dict[str, Any]) -> None:
        """Moves the bar, at most every PROGRESS_SECONDS; cheap otherwise."""
        if not total:
            return
        if unit != self.unit:
            self._finish()
            self.unit, self.artifact_id = unit, None
        self.percent = min(100.0, 100.0 * done / total)
        self.words = f"{self.stage.name}: {progress_words(done, total, unit, figures)}"
        if time.monotonic() - self.told >= PROGRESS_SECONDS:
            self.told = time.monotonic()
            self._tell()
            self.wandb_shown = self.wandb_shown or show_wandb(self.stage, self.folder)

    def end(self, sealed: Path) -> None:
        """The stage is sealed: its bar, if it has one, ends at 100."""
        self._finish()
        if not self.wandb_shown:
            show_wandb(self.stage, sealed)

    def _finish(self) -> None:
        if self.artifact_id is not None:
            self.percent = 100.0
            self._tell()

    def _tell(self) -> None:
        if self.artifact_id is None:
            key = artifact_key(self.stage, "progress")
            self.artifact_id = tell(
                "progress", partial(create_progress_artifact, self.percent, key=key, description=self.words)
            )
        else:
            tell(
                "progress",
                partial(update_progress_artifact, self.artifact_id, self.percent, description=self.words),
            )
