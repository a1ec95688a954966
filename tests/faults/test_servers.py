"""Faults of the servers around a run: server, worker, flow and training killed, stopped and doubled; a locked database.

Every run begins where the corpus is sealed, so that its first work is a training.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from faulting import assert_nothing_is_left, at_work, finish
from served import END_SECONDS, Served, free_port, micro_config, wait_for

from command_line import MICRO, ROOT, Tsuzuki, digests
from flows.service.ephemeral_server import SERVER_FACTORY
from flows.service.lost_runs import flow_run_of

pytestmark = pytest.mark.faults

UNTIL = "lora"
MADE = ("pretrain", "instructions", "lora")
OUTAGE_SECONDS = 60
LOCKED_SECONDS = 25


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    store = tmp_path_factory.mktemp("undisturbed")
    Tsuzuki().stages("demo", "--config", MICRO, "--store", store, "--until", UNTIL)
    return store


@pytest.fixture
def store(undisturbed, tmp_path) -> Path:
    """A store in which a training comes next."""
    folder = tmp_path / "store"
    shutil.copytree(undisturbed, folder, ignore=shutil.ignore_patterns(*MADE))
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    service = Served(folder, TSUZUKI_LOCK_FOLDER=str(folder))
    yield service
    service.stop()


def words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def is_worker(process: psutil.Process) -> bool:
    return {"prefect", "worker", "start"} <= set(words_of(process))


def is_server(process: psutil.Process) -> bool:
    return "uvicorn" in words_of(process)


def is_training(process: psutil.Process) -> bool:
    return "tasks.worker" in words_of(process)


def is_flow(process: psutil.Process) -> bool:
    return flow_run_of(process) is not None and any("prefect" in word for word in words_of(process))


def start_training(served: Served, store: Path) -> str:
    """Id of a run that is in mid-training."""
    run_id = served.trigger("pipeline/demo", {"config": micro_config(), "store": str(store), "until": UNTIL})
    wait_for(lambda: at_work("pretrain", store))
    return run_id


def kill(served: Served, *kinds: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """SIGKILL to every process of the service of these kinds, at once."""
    found = [process for process in served.processes() if any(kind(process) for kind in kinds)]
    assert found
    for process in found:
        process.kill()
    return found


def assert_whole(served: Served, run_id: str, store: Path, undisturbed: Path) -> None:
    """The run is Completed, with all that the server shows of it; its stages are there once, bytes as undisturbed."""
    assert end_by_itself(served, run_id) == "COMPLETED"
    wait_for(lambda: not [p for p in psutil.process_iter() if flow_run_of(p) == run_id])
    assert digests(store) == digests(undisturbed)
    assert_nothing_is_left(store)
    wait_for(lambda: {run["state_type"] for run in task_runs(served, run_id, MADE)} <= {"COMPLETED", "CRASHED"})
    done = [run["name"].split(":")[0] for run in task_runs(served, run_id, MADE) if run["state_type"] == "COMPLETED"]
    assert set(done) == set(MADE)
    assert served.get("/v2/concurrency_limits/tsuzuki-gpu")["active_slots"] == 0


def end_by_itself(served: Served, run_id: str) -> str:
    """Type of the state that a run ends in for good: a crashed one is started again."""
    ends = ("COMPLETED", "FAILED", "CANCELLED")
    return wait_for(lambda: (s := served.get(f"/flow_runs/{run_id}")["state_type"]) in ends and s, END_SECONDS)


def task_runs(served: Served, run_id: str, stages: tuple[str, ...]) -> list[dict[str, Any]]:
    found = served.post("/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    return [run for run in found if run["name"].split(":")[0] in stages]


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ("server of tsuzuki serve killed", (is_server,)),
        ("worker killed", (is_worker,)),
        ("flow killed, its worker lives", (is_flow,)),
        ("training killed", (is_training,)),
        ("server, worker, flow and training killed at once", (is_server, is_worker, is_flow, is_training)),
    ],
)
def test_a_run_completes_by_itself_when_its_processes_are_killed(served, store, undisturbed, fault_log, fault, kinds):
    with fault_log.trying(fault) as recovery:
        run_id = start_training(served, store)
        kill(served, *kinds)
        recovery.begin()
        assert_whole(served, run_id, store, undisturbed)
        assert served.get(f"/flow_runs/{run_id}")["run_count"] == (2 if is_flow in kinds else 1)


def test_a_run_whose_worker_was_killed_can_still_be_cancelled(served, store, undisturbed, fault_log):
    with fault_log.trying("worker killed, then its run cancelled") as recovery:
        run_id = start_training(served, store)
        kill(served, is_worker)
        cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        served.post(f"/flow_runs/{run_id}/set_state", cancelling)
        recovery.begin()
        assert end_by_itself(served, run_id) == "CANCELLED"
        wait_for(lambda: not flows_of(run_id))
        again = served.trigger("pipeline/demo", {"config": micro_config(), "store": str(store), "until": UNTIL})
        assert_whole(served, again, store, undisturbed)


def test_two_workers_never_double_a_run_and_a_doubled_one_builds_each_stage_once(served, store, undisturbed, fault_log):
    with fault_log.trying("two workers, and a run scheduled again while it lives") as recovery, second_worker(served):
        run_id = start_training(served, store)
        assert len(flows_of(run_id)) == 1
        again = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "by mistake"}
        served.post(f"/flow_runs/{run_id}/set_state", {"state": again, "force": True})
        recovery.begin()
        wait_for(lambda: len(flows_of(run_id)) == 2)
        assert_whole(served, run_id, store, undisturbed)


@contextmanager
def second_worker(served: Served) -> Iterator[None]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "tsuzuki", "--type", "process"],
        env={**served.environment, "PREFECT_API_URL": served.url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: len([w for w in workers(served) if w["status"] == "ONLINE"]) == 2)
        yield
    finally:
        worker.kill()  # its runs are done
        worker.wait()


def workers(served: Served) -> list[dict[str, Any]]:
    return served.post("/work_pools/tsuzuki/workers/filter", {})


def flows_of(run_id: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if flow_run_of(process) == run_id and is_flow(process)]


def test_a_run_bears_a_locked_sqlite(served, store, undisturbed, fault_log):
    with fault_log.trying("SQLite locked for 25 s") as recovery:
        run_id = start_training(served, store)
        database = sqlite3.connect(served.home / "prefect.db", isolation_level=None, timeout=60)
        database.execute("BEGIN EXCLUSIVE")
        time.sleep(LOCKED_SECONDS)
        database.execute("ROLLBACK")
        database.close()
        recovery.begin()
        assert_whole(served, run_id, store, undisturbed)
        assert served.get(f"/flow_runs/{run_id}")["run_count"] == 1


def test_a_second_service_on_the_same_home_is_refused(served, tsuzuki, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(served.home))
    told = tsuzuki("serve", "--port", free_port(), code=2).stderr
    assert "found a running `tsuzuki serve`" in told
    assert f"process {served.process.pid}, {served.url}" in told


@pytest.mark.parametrize("everything", [False, True], ids=["serve", "everything"])
def test_after_a_kill_of_all_or_of_serve_alone_the_next_serve_completes_the_run(
    served, store, undisturbed, fault_log, everything
):
    fault = "machine stops: everything killed at once" if everything else "tsuzuki serve itself killed"
    with fault_log.trying(fault) as recovery:
        run_id = start_training(served, store)
        below = served.processes()
        for process in [served.process, *(below if everything else [])]:
            process.kill()
        served.process.wait()
        recovery.begin()
        served.start()
        assert_whole(served, run_id, store, undisturbed)
        assert served.get(f"/flow_runs/{run_id}")["run_count"] >= 2  # a slow start may look like a silent run
    assert not [process for process in below if process.is_running()], "a process outlives its service"


class LoneServer:
    """Prefect's server without anything of ours."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "TSUZUKI_LOCK_FOLDER": str(folder),
        }
        self.start()

    def start(self) -> None:
        words = ["uvicorn", "--factory", SERVER_FACTORY, "--port", str(self.port), "--log-level", "error"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *words],
            env={**os.environ, **self.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def lone_server(tmp_path) -> Iterator[LoneServer]:
    server = LoneServer(tmp_path)
    yield server
    server.stop()


@pytest.mark.parametrize("fault", ["hangs", "is down"])
def test_a_training_bears_a_server_that_is_away_for_a_minute(
    lone_server, store, undisturbed, fault_log, fault, tmp_path
):
    with fault_log.trying(f"server {fault} for 60 s") as recovery:
        wait_for(lambda: answers(lone_server))
        words = ("run", "demo", "--config", MICRO, "--store", store, "--until", UNTIL)
        run = Tsuzuki().start(*words, **lone_server.environment)
        on_gpu = gpu_stages(lone_server, tmp_path, f"until:{tmp_path / 'enough'}", "quick")
        with killed_at_end(run), killed_at_end(on_gpu):
            assert on_gpu.stdout is not None and on_gpu.stdout.readline() == "working\n"
            wait_for(lambda: at_work("pretrain", store))
            with server_away(lone_server, fault):
                time.sleep(OUTAGE_SECONDS / 4)
                (tmp_path / "enough").touch()  # one stage gives its slot back and the next wants it, with no server
                time.sleep(OUTAGE_SECONDS * 3 / 4)
            recovery.begin()
            finish(run)
            told, errors = on_gpu.communicate(timeout=300)
            assert on_gpu.returncode == 0, errors
            assert told.split()[-1] == "1", "the second stage worked without a slot of the server"
        assert digests(store) == digests(undisturbed)
        assert_nothing_is_left(store)
        found = httpx.post(f"{lone_server.url}/flow_runs/filter", json={}).json()
        assert [flow_run["state_type"] for flow_run in found] == ["COMPLETED"] * 2
        assert httpx.get(f"{lone_server.url}/v2/concurrency_limits/tsuzuki-gpu").json()["active_slots"] == 0


@contextmanager
def server_away(server: LoneServer, fault: str) -> Iterator[None]:
    if fault == "hangs":
        server.process.send_signal(signal.SIGSTOP)
        yield
        server.process.send_signal(signal.SIGCONT)
    else:
        server.stop()
        yield
        server.start()


@contextmanager
def killed_at_end(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def answers(server: LoneServer) -> bool:
    try:
        return httpx.get(f"{server.url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def gpu_stages(server: LoneServer, folder: Path, *names: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    return subprocess.Popen(
        [sys.executable, "-m", "gpu_stage", str(folder / "gpu-store"), *names],
        env={**os.environ, **server.environment, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
