"""A backfill on this machine: `tsuzuki run` for each value, some at a time, and an end that leaves none behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil
import yaml

from flows.backfill.fillings import Filled, Filling
from flows.service.ephemeral_server import end_with_this_process

LOOK_SECONDS = 0.2
PIPE_SECONDS = 10.0
"""So long may what a run started keep its pipes open after the run has ended."""
ERROR_LINES = 3


@dataclass
class Processes:
    """Runs fillings as processes of their own. `words`: further words of `tsuzuki run`; `say` hears their stderr."""

    words: list[str]
    last_stage: str
    num_parallel: int
    grace_seconds: float
    stop_on_failure: bool
    say: Callable[[str], None]
    _running: dict[subprocess.Popen[str], subprocess.Popen[bytes]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False

    def run(self, fillings: list[Filling]) -> Iterator[Filled]:
        """What became of each, in the order in which they end.

        On SIGINT and SIGTERM all are told to end (a training saves a checkpoint), then KeyboardInterrupt is raised.
        """
        asked = threading.Event()
        with (
            _signals(asked.set),
            tempfile.TemporaryDirectory() as folder,
            ThreadPoolExecutor(self.num_parallel) as pool,
        ):
            pending = {
                pool.submit(self._run, filling, Path(folder, f"{index}.yaml")) for index, filling in enumerate(fillings)
            }
            try:
                while pending and not asked.is_set():
                    done, pending = wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
                    yield from self._results(done)
            finally:
                self._end_all()
            yield from self._results(pending)
        if asked.is_set():
            raise KeyboardInterrupt

    def _results(self, done: set[Future[Filled]]) -> Iterator[Filled]:
        for future in done:
            filled = future.result()
            if filled.status == "failed" and self.stop_on_failure:
                self._end_all()
            yield filled

    def _run(self, filling: Filling, file: Path) -> Filled:
        file.write_text(yaml.safe_dump(filling.config.model_dump(mode="json"), allow_unicode=True), encoding="utf-8")
        started = time.monotonic()
        with self._lock:
            if self._stopping:
                return Filled(filling.value, "skipped", 0.0)
            process = self._start(filling, file)
        lines, errors = (
            _Lines(process.stdout),
            _Lines(process.stderr, lambda line: self.say(f"{filling.value}: {line}")),
        )
        process.wait()
        lines.join(PIPE_SECONDS)
        errors.join(PIPE_SECONDS)
        with self._lock:
            self._running.pop(process).kill()
        seconds = round(time.monotonic() - started, 3)
        paths = _paths(lines.last)
        # Told to end before its flow began, a run leaves with 0.
        if process.returncode == 0 and self.last_stage in paths:
            return Filled(filling.value, "completed", seconds, delivery=paths.get("deliver"))
        if self._stopping:
            return Filled(filling.value, "stopped", seconds)
        return Filled(filling.value, "failed", seconds, error=_told(errors.last) or f"exit {process.returncode}")

    def _start(self, filling: Filling, config: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "run", filling.config.recipe, "--config", str(config), *self.words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C in the terminal reaches this process alone, which ends the others
        )
        self._running[process] = end_with_this_process(process.pid)
        return process

    def _end_all(self) -> None:
        """Begins no run any more; lets those that run checkpoint and leave, then kills what remains of them."""
        with self._lock:
            self._stopping = True
            running = [psutil.Process(process.pid) for process in self._running if process.poll() is None]
        below = [child for process in running for child in _children(process)]
        _signal(running, signal.SIGTERM)
        psutil.wait_procs([*running, *below], timeout=self.grace_seconds if running else 0)
        left = [*running, *below, *(child for process in running for child in _children(process))]
        _signal(left, signal.SIGKILL)


class _Lines(threading.Thread):
    """Reads the lines of a pipe and keeps the last ones."""

    def __init__(self, pipe: IO[str] | None, hear: Callable[[str], None] = lambda line: None) -> None:
        super().__init__(daemon=True)
        assert pipe is not None
        self.pipe, self.hear = pipe, hear
        self.last: deque[str] = deque(maxlen=50)
        self.start()

    def run(self) -> None:
        for line in self.pipe:
            self.last.append(line.rstrip())
            self.hear(line.rstrip())


def _paths(lines: deque[str]) -> dict[str, str]:
    """The artifact of each stage that the JSON lines of `tsuzuki run` tell of."""
    stages: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return {stage["stage"]: stage["path"] for stage in stages}


def _told(lines: deque[str]) -> str:
    """The error that `tsuzuki run` ended with, without its hint."""
    told = list(lines)
    begin = max((index for index, line in enumerate(told) if line.startswith("error: ")), default=len(told))
    return "\n".join(line for line in told[begin:][:ERROR_LINES] if not line.startswith("hint: ")).removeprefix(
        "error: "
    )


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


@contextmanager
def _signals(hear: Callable[[], None]) -> Iterator[None]:
    before = {number: signal.signal(number, lambda *_: hear()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
