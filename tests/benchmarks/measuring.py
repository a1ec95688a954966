"""What the benchmarks share: a command as a whole process with its time and memory, and medians over runs."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

POLL_SECONDS = 0.5


class Measured(NamedTuple):
    """One finished command: seconds by the wall clock, peak memory of it and all its children, what it printed."""

    seconds: float
    peak_bytes: int
    stdout: str


def measure(command: Sequence[str | Path], **options: Any) -> Measured:
    """Runs a command to its end. Exits with its output if it fails.

    Memory is the proportional set size (shared pages counted once), looked at every POLL_SECONDS.
    """
    started = time.perf_counter()
    words = [str(word) for word in command]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True, **options) as process,
    ):
        peak, done = [0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peak, done))
        watcher.start()
        stdout, _ = process.communicate()
        seconds = time.perf_counter() - started
        done.set()
        watcher.join()
        if process.returncode:
            errors.seek(0)
            sys.exit(f"{' '.join(words)}: exit code {process.returncode}\n{errors.read()[-3000:]}")
    return Measured(seconds, peak[0], stdout)


def _watch(pid: int, peak: list[int], done: threading.Event) -> None:
    while not done.wait(POLL_SECONDS):
        peak[0] = max(peak[0], tree_bytes(pid))


def tree_bytes(pid: int) -> int:
    """Proportional set size of a process and all its descendants."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in family:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
            continue
    return total


def medians(runs: int, once: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The median of each figure over that many calls."""
    results = [once() for _ in range(runs)]
    return {name: statistics.median(result[name] for result in results) for name in results[0]}


def tell(name: str, **figures: Any) -> None:
    """One JSON line on stdout: what was measured, and its figures."""
    print(json.dumps({"benchmark": name, **figures}, ensure_ascii=False), flush=True)
