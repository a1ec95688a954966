"""What a person at a terminal sees: one JSON line a stage on stdout, bars or plain lines on stderr."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from flows.progress_words import progress_words
from flows.runs import Reporter
from tasks.stage import Stage
from tasks.store import Status

PLAIN_SECONDS = 10.0
"""Without a terminal, progress is a plain line at most that often."""


class ConsoleReporter(Reporter):
    def __init__(self) -> None:
        self.console = Console(stderr=True)
        columns = (TextColumn("{task.description:<13}"), BarColumn(30))
        self.bars = Progress(*columns, TextColumn("{task.fields[told]}"), TimeElapsedColumn(), console=self.console)
        self.bar: TaskID | None = None
        self.told = 0.0

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *unused: object) -> None:
        if self.console.is_terminal:
            self.bars.stop()

    def started(self, stage: Stage) -> None:
        self.told = time.monotonic()
        if self.console.is_terminal:
            self.bar = self.bars.add_task(stage.name, total=None, told="")

    def waiting(self, stage: Stage) -> None:
        self.console.print(f"{stage.name}: another process is building it; waiting", style="yellow")

    def progress(self, stage: Stage, done: int, total: int | None, unit: str, figures: dict[str, Any]) -> None:
        told = progress_words(done, total, unit, figures)
        if self.bar is not None:
            self.bars.update(self.bar, completed=done, total=total, told=told)
        elif time.monotonic() - self.told >= PLAIN_SECONDS:
            self.told = time.monotonic()
            self.console.print(f"{stage.name}: {told}", highlight=False)

    def finished(self, stage: Stage, status: Status, path: Path, seconds: float) -> None:
        if self.bar is not None:
            self.bars.remove_task(self.bar)
            self.bar = None
        line = {"stage": stage.name, "status": status, "path": str(path), "seconds": round(seconds, 3)}
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        sys.stdout.flush()
