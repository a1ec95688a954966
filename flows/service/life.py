"""One `tsuzuki serve` a Prefect home, by a lock that the kernel frees; runs that end when their service is killed."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from data_contracts.errors import UsageError
from tasks.locks import try_lock

LOCK_NAME = "tsuzuki-serve.lock"
TAKE_SECONDS = 3.0
"""The runs of a service that was killed hold its lock for a moment, one after the other."""


@contextmanager
def only_service_of(home: Path, what: str) -> Iterator[None]:
    """Holds the lock of a Prefect home. Raises UsageError that tells what the holder wrote of itself, if it is held."""
    home.mkdir(parents=True, exist_ok=True)
    with open(home / LOCK_NAME, "a+", encoding="utf-8") as lock:
        deadline = time.monotonic() + TAKE_SECONDS
        while not try_lock(lock):
            if time.monotonic() > deadline:
                lock.seek(0)
                raise UsageError(
                    f"`{home}`: found a running `tsuzuki serve` ({lock.read().strip()}), expected none on that home",
                    hint="use that one, stop it, or set PREFECT_HOME to another folder",
                )
            time.sleep(0.1)
        lock.truncate(0)
        lock.write(what)
        lock.flush()
        yield


def end_with_service(lock: Path | None, grace_seconds: float) -> None:
    """Has this process end when the service that holds that lock is gone, even by SIGKILL; None: it has no service."""
    if lock is not None:
        threading.Thread(target=_end_after, args=(lock, grace_seconds), name="end with service", daemon=True).start()


def _end_after(lock: Path, grace_seconds: float) -> None:
    try:
        with open(lock) as held:
            fcntl.flock(held, fcntl.LOCK_SH)  # for as long as the service lives
    except FileNotFoundError:
        pass  # with its whole home
    # The children end first, a training with a checkpoint. Nobody is left to hear of this process's own state.
    children = psutil.Process().children(recursive=True)
    os.kill(os.getpid(), signal.SIGTERM)
    psutil.wait_procs(children, timeout=grace_seconds)
    os.kill(os.getpid(), signal.SIGKILL)
