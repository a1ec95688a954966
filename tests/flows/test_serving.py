"""`tsuzuki serve`: one command starts all of it, a deployment runs, the GPU is guarded, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from command_line import MICRO, ROOT, Tsuzuki
from flows.lost_runs import flow_run_of

WAIT_SECONDS = 90


def wait_for(found: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return result


class Served:
    """A running `tsuzuki serve` with a Prefect home, store and port of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.home, self.store, self.log = folder / "home", folder / "store", folder / "serve.log"
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(self.home),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "1",
            "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
        }
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*Tsuzuki.command, "serve", "--port", str(self.port), "--store", str(self.store)],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._is_ready)

    def _is_ready(self) -> bool:
        told = self.log.read_text(encoding="utf-8")
        assert self.process.poll() is None, told
        return "worker ready" in told

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def post(self, path: str, values: dict[str, Any]) -> Any:
        return self._ask("POST", path, values)

    def _ask(self, method: str, path: str, values: Any) -> Any:
        """Asks again while SQLite is busy, as Prefect's own clients do."""
        while (answer := httpx.request(method, f"{self.url}{path}", json=values, timeout=30)).status_code == 503:
            time.sleep(0.2)
        return answer.raise_for_status().json()

    def trigger(self, deployment: str, parameters: dict[str, Any]) -> str:
        """Id of a new flow run, as the UI's button Run makes one."""
        found = self.get(f"/deployments/name/{deployment}")
        assert found["status"] in ("READY", "NOT_READY")
        return self.post(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})["id"]

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    service = Served(tmp_path_factory.mktemp("served"))
    yield service
    if service.process.poll() is None:
        service.process.terminate()
        service.process.wait(timeout=WAIT_SECONDS)


def micro_config() -> dict[str, Any]:
    return {"recipe": "demo", **yaml.safe_load(MICRO.read_text(encoding="utf-8"))}


def test_every_deployment_of_prefect_yaml_is_registered_as_it_is_written(served):
    written = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    found = {d["name"]: d for d in served.post("/deployments/filter", {})}
    assert set(found) == {deployment["name"] for deployment in written}
    for deployment in written:
        registered = found[deployment["name"]]
        assert registered["parameters"] == deployment["parameters"]
        assert (registered["work_pool_name"], registered["work_queue_name"]) == (
            "tsuzuki",
            deployment["work_pool"]["work_queue_name"],
        )
        assert (
            registered["concurrency_options"]["collision_strategy"]
            == (deployment["concurrency_limit"]["collision_strategy"])
        )
        assert [(s["schedule"]["cron"], s["schedule"]["timezone"], s["active"]) for s in registered["schedules"]] == [
            (s["cron"], s["timezone"], s["active"]) for s in deployment["schedules"]
        ]
        assert registered["pull_steps"] in (None, [])


def test_a_deployment_triggered_through_the_api_runs_to_completed(served):
    run_id = served.trigger("pipeline/demo", {"config": micro_config(), "until": "acquire"})

    def ended() -> str:
        state = served.get(f"/flow_runs/{run_id}")["state"]
        return state["type"] if state["type"] in ("COMPLETED", "FAILED", "CRASHED") else ""

    assert wait_for(ended) == "COMPLETED"
    assert list(served.store.glob("acquire/*/manifest.json"))


def gpu_run(served: Served, store: Path, name: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    return subprocess.Popen(
        [sys.executable, "-m", "gpu_stage", str(store), name],
        env={**served.environment, "PREFECT_API_URL": served.url, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def let_leases_run_out(served: Served) -> None:
    """As if their 60 s had passed since they were renewed."""
    folder = served.home / "concurrency_leases"
    past = "2020-01-01T00:00:00+00:00"
    index = folder / "expirations.json"
    expirations = json.loads(index.read_text())
    for lease in expirations:
        file = folder / f"{lease}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "expiration": past}))
    index.write_text(json.dumps(dict.fromkeys(expirations, past)))


def test_two_stages_never_share_the_gpu_and_a_killed_one_frees_its_slot(served, tmp_path):
    with gpu_run(served, tmp_path / "first", "hang") as first:
        assert first.stdout is not None and first.stdout.readline() == "working\n"
        with gpu_run(served, tmp_path / "second", "quick") as second:
            wait_for(lambda: len(running_tasks(served)) == 2)
            time.sleep(1.5)
            assert second.poll() is None, "the second got the GPU while the first had it"
            first.kill()
            first.wait()
            let_leases_run_out(served)
            assert second.stdout is not None and second.stdout.readline() == "1\n"
            assert second.wait(timeout=WAIT_SECONDS) == 0
    assert served.get("/v2/concurrency_limits/tsuzuki-gpu")["active_slots"] == 0


def running_tasks(served: Served) -> list[Any]:
    return served.post("/task_runs/filter", {"task_runs": {"state": {"type": {"any_": ["RUNNING"]}}}})


def test_sigterm_stops_all_of_it_and_the_run_in_work_is_scheduled_again(served):
    run_id = served.trigger("pipeline/demo", {"config": micro_config()})

    def of_the_run() -> list[psutil.Process]:
        return [process for process in served.processes() if flow_run_of(process) == run_id]

    wait_for(of_the_run)
    wait_for(lambda: served.get(f"/flow_runs/{run_id}")["state"]["type"] == "RUNNING")
    started = [served.process.pid, *(process.pid for process in served.processes())]
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(timeout=WAIT_SECONDS) == 0
    homes = [p.pid for p in psutil.process_iter() if home_of(p) == str(served.home)]
    assert homes == [], "a process of the service is left"
    assert [pid for pid in started if psutil.pid_exists(pid)] == []
    with sqlite3.connect(served.home / "prefect.db") as database:
        assert database.execute("select state_name from flow_run where id = ?", (run_id,)).fetchall() == [
            ("AwaitingRetry",)
        ]


def home_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("PREFECT_HOME")
    except (psutil.Error, OSError):
        return None


def test_it_refuses_to_listen_for_others_without_a_password(tsuzuki, monkeypatch):
    for host in ("0.0.0.0", "::"):
        told = tsuzuki("serve", "--host", host, code=2).stderr
        assert f"`--host {host}`" in told
        assert "PREFECT_SERVER_API_AUTH_STRING=user:password" in told
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "秘密")
    told = tsuzuki("serve", "--host", "0.0.0.0", code=2).stderr
    assert "expected `user:password`" in told
    assert "秘密" not in told


def test_it_names_a_port_that_is_taken(tsuzuki):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = tsuzuki("serve", "--port", taken.getsockname()[1], code=2).stderr
    assert "expected a free port" in told
    assert "--port" in told
