"""What tests of faults share: finding and killing the processes of a run, and proving that nothing is left."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import psutil


class Running(Protocol):
    """A started run: a Popen, or one of `story_server`."""

    pid: int
    stderr: Any

    def poll(self) -> int | None: ...
    def wait(self) -> int: ...


@dataclass
class Recovery:
    """How long it took from the end of a fault to whole and equal output."""

    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def begin(self) -> None:
        """The fault is over; what follows is recovery."""
        self.started = time.monotonic()

    def end(self) -> None:
        """All output is there; what follows looks at it. Without this call, recovery ends with its block."""
        self.ended = time.monotonic()

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.started


@dataclass
class FaultLog:
    """What was tried, and how long each recovery took; `make faults` ends with its table. Threads may share it."""

    tried: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    lock: Any = field(default_factory=Lock)

    @contextmanager
    def trying(self, fault: str) -> Iterator[Recovery]:
        """One real fault, survived if the block ends without an error. `fault` is a row of the table."""
        with self.lock:
            self.tried[fault] = self.tried.get(fault, 0) + 1
        recovery = Recovery()
        yield recovery
        with self.lock:
            self.seconds.setdefault(fault, []).append(recovery.seconds)

    def add(self, tried: dict[str, int], seconds: dict[str, list[float]]) -> None:
        """What another process of the tests tried."""
        for fault, number in tried.items():
            self.tried[fault] = self.tried.get(fault, 0) + number
            self.seconds.setdefault(fault, []).extend(seconds.get(fault, []))

    def rows(self) -> list[tuple[str, int, int, float, float]]:
        """(fault, tried, survived, median and largest seconds to recover), in the order of the tests."""
        return [
            (fault, tried, len(times), sorted(times)[len(times) // 2] if times else 0.0, max(times, default=0.0))
            for fault, tried in self.tried.items()
            for times in [self.seconds.get(fault, [])]
        ]


def at_work(stage: str, store: Path) -> bool:
    """Whether the stage has begun; for a training, whether it has written a checkpoint."""
    partial = next(store.glob(f".partial/{stage}-*"), None)
    if partial is None:
        return False
    return stage not in ("pretrain", "lora") or any(partial.glob(".scratch/checkpoints/step-*"))


def descendants(run: Running, word: str) -> list[psutil.Process]:
    """The processes below that run with the word in their command lines."""
    found = []
    try:
        for child in psutil.Process(run.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if any(word in part for part in child.cmdline()):
                    found.append(child)
    except psutil.NoSuchProcess:
        pass  # the run itself has ended
    return found


def descendant(run: Running, word: str) -> psutil.Process | None:
    return next(iter(descendants(run, word)), None)


def wait_until(look: Callable[[], Any], run: Running, pause: float = 0.05) -> Any:
    """What `look` finds while the run goes on."""
    deadline = time.monotonic() + 120
    while not (found := look()):
        assert run.poll() is None, run.stderr.read() if run.stderr else ""
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(pause)
    return found


def kill_flow(run: Running) -> None:
    """SIGKILL to the run's main process; the others must end by themselves."""
    children = psutil.Process(run.pid).children(recursive=True)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    if run.stderr:
        run.stderr.close()
    psutil.wait_procs(children, timeout=60)
    assert not [c for c in children if c.is_running()], "processes outlive the killed run"


def finish(run: subprocess.Popen[str]) -> None:
    _, told = run.communicate(timeout=300)
    assert run.returncode == 0, told


def assert_nothing_is_left(store: Path) -> None:
    """No half-done work, no lock held, no process that works on the store."""
    left = [path for place in (".partial", ".trash") if (store / place).is_dir() for path in (store / place).iterdir()]
    assert not left, left
    for path in (store / ".locks").iterdir():
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    words = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in words if any(str(store) in word for word in line)]
