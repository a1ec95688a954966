"""The parent side of the worker protocol: starts a worker process, follows its events, ends its whole process group."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data_contracts import errors
from data_contracts.errors import TsuzukiError, WorkerError, WorkerLost
from data_contracts.files import write_private
from tasks.workspace import Workspace

PROJECT_ROOT = Path(__file__).resolve().parent.parent
LOG_TAIL_LINES = 15
Event = dict[str, Any]


def run_worker(
    function: str,
    arguments: dict[str, Any],
    workspace: Workspace,
    on_event: Callable[[Event], None] = lambda event: None,
    python: Path | None = None,
) -> Any:
    """The JSON result of `function(**arguments, emit=...)`, run by `tasks.worker` in its own process group.

    function: `module:name`, imported by the worker only. arguments: JSON values (paths as text). on_event gets every
    event but the last. python: the worker's interpreter; that of the runtime if None. Errors of our tree are raised
    here as in the worker; any other failure is a WorkerError, and a worker that dies without a word a WorkerLost. The
    worker holds the key's lock too, so it is never doubled.
    """
    job_path, log_path = workspace.scratch / "job.json", workspace.scratch / "worker.log"
    write_private(job_path, json.dumps({"function": function, "arguments": arguments}, ensure_ascii=False))
    with open(log_path, "ab") as log, _started(job_path, log, workspace, python) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # the worker was killed amid its words
            event = json.loads(line)
            if event["event"] == "done":
                process.wait()
                return event["result"]
            if event["event"] == "error":
                raise _error(event, log_path)
            on_event(event)
        process.wait()
    raise WorkerLost(
        f"`{function}`: the worker ended with {_exit_reason(process.returncode)} and said nothing\n{_tail(log_path)}",
        hint="run the same command again; it continues from the last complete checkpoint",
    )


@contextlib.contextmanager
def _started(job_path: Path, log: Any, workspace: Workspace, python: Path | None) -> Iterator[subprocess.Popen[str]]:
    runtime = workspace.runtime
    process = subprocess.Popen(
        [python or runtime.worker_python, "-m", "tasks.worker", str(job_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        encoding="utf-8",
        cwd=PROJECT_ROOT,
        start_new_session=True,
        pass_fds=[workspace.lock_fd] if workspace.lock_fd >= 0 else [],
    )
    try:
        yield process
    finally:
        _end(process, runtime.cancel_grace_seconds)


def _end(process: subprocess.Popen[str], grace_seconds: float) -> None:
    """Lets a worker that is still running checkpoint and leave (SIGTERM), then kills what remains of its group.

    A second signal that ends the waiting ends the worker, too.
    """
    try:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_seconds)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()


def _error(event: Event, log_path: Path) -> TsuzukiError:
    kind = getattr(errors, event["type"], WorkerError)
    message = event["message"]
    if kind is WorkerError:
        message = f"{message}\n{_tail(log_path)}"
    return kind(message, hint=event["hint"])


def _tail(log_path: Path) -> str:
    with open(log_path, encoding="utf-8", errors="replace") as log:
        lines = deque(log, maxlen=LOG_TAIL_LINES)
    return "".join(f"  | {line.rstrip()}\n" for line in lines).rstrip()


def _exit_reason(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
