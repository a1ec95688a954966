"""What tests of faults share: finding and killing the processes of a run, and proving that nothing is left."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil


@dataclass
class Recovery:
    """How long it took from the end of a fault to whole and equal output."""

    started: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """The fault is over; what follows is recovery."""
        self.started = time.monotonic()


@dataclass
class FaultLog:
    """What was tried, and how long each recovery took; `make faults` ends with its table."""

    tried: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def trying(self, fault: str) -> Iterator[Recovery]:
        """One real fault, survived if the block ends without an error. `fault` is a row of the table."""
        self.tried[fault] = self.tried.get(fault, 0) + 1
        recovery = Recovery()
        yield recovery
        self.seconds.setdefault(fault, []).append(time.monotonic() - recovery.started)

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


def descendant(run: subprocess.Popen[str], word: str) -> psutil.Process | None:
    """A process below that run with the word in its command line."""
    for child in psutil.Process(run.pid).children(recursive=True):
        try:
            if any(word in part for part in child.cmdline()):
                return child
        except psutil.NoSuchProcess:
            continue
    return None


def wait_until(look: Callable[[], Any], run: subprocess.Popen[str], pause: float = 0.05) -> Any:
    """What `look` finds while the run goes on."""
    deadline = time.monotonic() + 120
    while not (found := look()):
        assert run.poll() is None, run.stderr.read() if run.stderr else ""
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(pause)
    return found


def kill_flow(run: subprocess.Popen[str]) -> None:
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
    assert not list((store / ".partial").iterdir())
    for path in (store / ".locks").iterdir():
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    words = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in words if any(str(store) in word for word in line)]
