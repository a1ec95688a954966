"""Weights & Biases, in the parent process: figures go there when asked, and no failure of it stops a training."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.deliver.formats import is_link
from tasks.runtime import WandbConfig
from tasks.workspace import Workspace

INIT_TIMEOUT_SECONDS = 60.0
ADDRESS_NAME = "logs/wandb_address"
"""File of an artifact, and of its folder while it is made, that holds the address of its online run."""
log = logging.getLogger(__name__)
Track = Callable[[int, dict[str, float]], None]
"""`track(step, figures)`."""


def wandb_address(folder: Path) -> str | None:
    """Where the figures of the training in that folder are shown; none unless WandB was online."""
    try:
        address = (folder / ADDRESS_NAME).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return address if is_link(address) else None


@contextmanager
def tracking(settings: WandbConfig, project: str, description: dict[str, Any], workspace: Workspace) -> Iterator[Track]:
    """A `track` that sends figures to WandB, or nowhere (disabled, or after its first failure, which is logged).

    description: shown as the run's config. An offline run lies in `logs/wandb` of the artifact, for `wandb sync`.
    """
    run = _Guarded(settings, project, description, workspace)
    try:
        yield run.track
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish(exit_code=0)


class _Guarded:
    """A WandB run that turns its first failure into one warning and then stays silent."""

    def __init__(self, settings: WandbConfig, project: str, description: dict[str, Any], workspace: Workspace) -> None:
        self._folder = workspace.path / "logs"
        self._run: Any = None
        if settings.mode != "disabled":
            self._try(lambda: self._start(settings, project, description, _run_id(workspace)))

    def track(self, step: int, figures: dict[str, float]) -> None:
        self._try(lambda: self._run and self._run.log(figures, step=step))

    def finish(self, exit_code: int) -> None:
        self._try(lambda: self._run and self._run.finish(exit_code=exit_code))
        # WandB leaves links to absolute paths, which dangle once the artifact is moved to its final place.
        for path in self._folder.glob("wandb/**/*"):
            if path.is_symlink():
                path.unlink()

    def _start(self, settings: WandbConfig, project: str, description: dict[str, Any], run_id: str) -> None:
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            mode=settings.mode,  # pyright: ignore[reportArgumentType]
            project=project,
            entity=settings.entity,
            tags=list(settings.tags),
            config=description,
            dir=self._folder,
            id=run_id,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True, init_timeout=INIT_TIMEOUT_SECONDS
            ),
        )
        if address := self._run.url:
            (self._folder.parent / ADDRESS_NAME).write_text(address, encoding="utf-8")

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # whatever fails there, the training is worth more
            self._run = None
            log.warning("wandb: %s: %s; the training goes on without it", type(error).__name__, error)


def _run_id(workspace: Workspace) -> str:
    """The same for every attempt of one training, and another for a training made anew."""
    path = workspace.scratch / "wandb_id"
    if not path.exists():
        path.write_text(uuid.uuid4().hex[:12], encoding="utf-8")
    return path.read_text(encoding="utf-8")
