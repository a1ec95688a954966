"""The worker protocol: results, errors, sudden deaths and orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from data_contracts.errors import DataError, WorkerError, WorkerLost
from tasks.job import run_worker
from tasks.runtime import Runtime
from tasks.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


def add(a: int, b: int, emit) -> int:
    print("a library that prints to standard output")
    emit("progress", done=1)
    return a + b


def refuse(emit) -> None:
    raise DataError("`row 3`: found nothing, expected text", hint="fill it in")


def crash(emit) -> None:
    raise ZeroDivisionError("by zero")


def vanish(emit) -> None:
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_with_child(pids: str, emit) -> None:
    child = subprocess.Popen(["sleep", "60"])
    Path(pids).write_text(f"{os.getpid()} {child.pid}", encoding="utf-8")
    emit("progress", done=0)
    time.sleep(60)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return Workspace(tmp_path / "w", Runtime(store=tmp_path, cancel_grace_seconds=1))


def test_result_and_events_come_back_and_prints_do_not_disturb(workspace):
    events = []
    assert run_worker("test_job:add", {"a": 2, "b": 3}, workspace, events.append) == 5
    assert events == [{"event": "progress", "done": 1}]


def test_our_errors_keep_their_type_and_hint(workspace):
    with pytest.raises(DataError, match="found nothing") as error:
        run_worker("test_job:refuse", {}, workspace)
    assert error.value.hint == "fill it in"


def test_any_other_error_shows_the_end_of_the_log(workspace):
    with pytest.raises(WorkerError, match=r"ZeroDivisionError: by zero(.|\n)*in crash"):
        run_worker("test_job:crash", {}, workspace)


def test_a_sudden_death_is_retryable_and_names_the_signal(workspace):
    with pytest.raises(WorkerLost, match=r"SIGKILL(.|\n)*last words") as error:
        run_worker("test_job:vanish", {}, workspace)
    assert error.value.retryable


def _gone(pids: list[int], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        alive = [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]
        if not alive:
            return True
        time.sleep(0.1)
    return False


def _pids(path: Path) -> list[int]:
    deadline = time.monotonic() + 20
    while not (path.exists() and len(path.read_text(encoding="utf-8").split()) == 2):
        assert time.monotonic() < deadline, "the worker did not start"
        time.sleep(0.05)
    return [int(p) for p in path.read_text(encoding="utf-8").split()]


def test_a_cancelled_parent_leaves_no_process_of_the_group(workspace, tmp_path):
    def stop(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_worker("test_job:sleep_with_child", {"pids": str(tmp_path / "pids")}, workspace, stop)
    assert _gone(_pids(tmp_path / "pids"))


def test_a_worker_ends_when_its_parent_is_killed(tmp_path, workspace):
    script = (
        "import sys; from pathlib import Path; from tasks.job import run_worker; from tasks.runtime import Runtime;"
        "from tasks.workspace import Workspace; p = Path(sys.argv[1]);"
        "run_worker('test_job:sleep_with_child', {'pids': str(p / 'pids')}, Workspace(p / 'o', Runtime(store=p)))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT)
    worker, _ = _pids(tmp_path / "pids")
    parent.kill()
    parent.wait()
    assert _gone([worker])


def test_the_worker_holds_the_lock_of_its_key(tmp_path, workspace):
    descriptor = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    held = Workspace(tmp_path / "h", Runtime(store=tmp_path, cancel_grace_seconds=0), lock_fd=descriptor)
    seen = threading.Event()

    def stop(event):
        worker, _ = _pids(tmp_path / "pids")
        assert tmp_path / "lock" in [descriptor.readlink() for descriptor in Path(f"/proc/{worker}/fd").iterdir()]
        seen.set()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_worker("test_job:sleep_with_child", {"pids": str(tmp_path / "pids")}, held, stop)
    os.close(descriptor)
    assert seen.is_set()
