"""The child side of the worker protocol: `python -m tasks.worker job.json`; knows nothing of Prefect.

It reads a job file `{"function": "module:function", "arguments": {...}}`, calls the function with those arguments and
an `emit` callable, and writes JSON lines to its standard output: whatever the function emits, then `{"event": "done",
"result": ...}` or `{"event": "error", "type": ..., "message": ..., "hint": ...}`. All else that libraries print goes to
standard error. When its standard input closes, its parent is gone, and it ends as if told to by SIGTERM.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from data_contracts.errors import TsuzukiError, WorkerError
from tasks.storage_faults import storage_error_of

ORPHAN_GRACE_SECONDS = 20.0
Emit = Callable[..., None]
"""`emit(event, **fields)` sends one event to the parent; fields must be JSON."""


def main(job_path: str) -> int:
    # Idle OpenMP threads must sleep, not spin: on cores shared with others, spinning made training 10 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    events = _claim_stdout()
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def emit(event: str, **fields: Any) -> None:
        events.write(json.dumps({"event": event, **fields}, ensure_ascii=False) + "\n")
        events.flush()

    try:
        job = json.loads(Path(job_path).read_text(encoding="utf-8"))
        module, _, function = job["function"].partition(":")
        result = getattr(import_module(module), function)(**job["arguments"], emit=emit)
    except TsuzukiError as error:
        emit("error", type=type(error).__name__, message=error.message, hint=error.hint)
        return 1
    except Exception as error:
        told = storage_error_of(error, Path(job_path).parent) or WorkerError(f"{type(error).__name__}: {error}")
        with contextlib.suppress(OSError):  # the log lies on the disk that may be full
            traceback.print_exc()
        emit("error", type=type(told).__name__, message=told.message, hint=told.hint)
        return 1
    emit("done", result=result)
    return 0


def _claim_stdout() -> Any:
    """The real standard output, for events alone; file descriptor 1 becomes standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass  # the parent writes nothing; the read returns empty only when it is gone
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(ORPHAN_GRACE_SECONDS)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
