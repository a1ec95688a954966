"""One process of a launched training: `python -m tasks.training.rank_process MODULE JOB WATCH`.

It runs `MODULE.main(JOB)`. WATCH is the folder of this launch, shared with the launcher: `stop` in it ends the process
as SIGTERM would, `launcher.lock` is held by a launcher on this machine for as long as it lives, the first process
to fail leaves its error in `error.json`, and `leave_seconds` says how long it may take to leave. Beside the folder lies
`ranks.lock`, which the processes share while they run, so that a later launch can wait for those of an earlier one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import threading
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from data_contracts.errors import TsuzukiError

STOP_NAME = "stop"
LAUNCHER_LOCK_NAME = "launcher.lock"
RANKS_LOCK_NAME = "ranks.lock"
ERROR_NAME = "error.json"
LEAVE_NAME = "leave_seconds"
LOOK_SECONDS = 1.0
TRACEBACK_LINES = 15


def main(module: str, job_path: str, watch: str) -> None:
    """Runs the process to its end. An error is left in the folder of the launch and raised."""
    launcher = Launcher(Path(watch))
    if launcher.is_gone():
        sys.exit(f"`{watch}`: its launcher is gone")
    threading.Thread(target=launcher.end_this_process_with_it, daemon=True).start()
    try:
        import_module(module).main(job_path)
    except TsuzukiError as error:
        _leave_error(Path(watch), type(error).__name__, error.message, error.hint)
        raise
    except Exception:
        _leave_error(Path(watch), "", "".join(traceback.format_exc().splitlines(True)[-TRACEBACK_LINES:]), "")
        raise


class Launcher:
    """Whether what started this process still wants it."""

    def __init__(self, watch: Path) -> None:
        self.watch = watch
        self._parent = os.getppid()
        self._leave_seconds = float((watch / LEAVE_NAME).read_text(encoding="utf-8"))
        # A launcher on another machine holds no lock that could be tried from here.
        self._is_here = (watch / LAUNCHER_LOCK_NAME).exists()
        if self._is_here:
            self._running = open(watch.parent / RANKS_LOCK_NAME, "ab")  # noqa: SIM115 - held until this process ends
            fcntl.flock(self._running, fcntl.LOCK_SH)

    def is_gone(self) -> bool:
        """True when it ended or asked for the end, or when torchrun, the parent, ended."""
        if os.getppid() != self._parent or (self.watch / STOP_NAME).exists():
            return True
        return self._is_here and not _is_locked(self.watch / LAUNCHER_LOCK_NAME)

    def end_this_process_with_it(self) -> None:
        """Waits for that; then lets this process checkpoint and leave (SIGTERM), and kills what remains of it."""
        while not self.is_gone():
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._leave_seconds)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpgrp(), signal.SIGKILL)  # its loaders of data too
        os.kill(os.getpid(), signal.SIGKILL)


def leave_seconds(grace_seconds: float) -> float:
    """What a process may take when its launcher is killed after `grace_seconds`, and cancels the job before that."""
    return max(grace_seconds * 0.75, grace_seconds - 5)


def _is_locked(path: Path) -> bool:
    try:
        with open(path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _leave_error(watch: Path, kind: str, message: str, hint: str) -> None:
    """The first to fail is the cause; those after it mostly lost a peer."""
    error: dict[str, Any] = {"rank": os.environ.get("RANK", "0"), "type": kind, "message": message, "hint": hint}
    with contextlib.suppress(FileExistsError), open(watch / ERROR_NAME, "x", encoding="utf-8") as file:
        json.dump(error, file, ensure_ascii=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
