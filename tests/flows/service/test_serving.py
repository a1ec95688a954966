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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from served import WAIT_SECONDS, Served, micro_config, wait_for

from command_line import ROOT
from flows.service.lost_runs import flow_run_of


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    service = Served(folder, TSUZUKI_LOCK_FOLDER=str(folder))
    yield service
    service.stop()


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
    assert served.end_of(run_id) == "COMPLETED"
    assert list(served.store.glob("acquire/*/manifest.json"))


def gpu_run(served: Served, store: Path, name: str, on_server: bool = True) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    server = {"PREFECT_API_URL": served.url} if on_server else {"PREFECT_HOME": str(store.parent / "home")}
    return subprocess.Popen(
        [sys.executable, "-m", "gpu_stage", str(store), name],
        env={**served.environment, "PYTHONPATH": path, **server},
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


def test_a_run_without_a_server_and_one_on_it_never_share_the_gpu(served, tmp_path):
    def slots() -> int:
        return served.get("/v2/concurrency_limits/tsuzuki-gpu")["active_slots"]

    with gpu_run(served, tmp_path / "plain", "hang", on_server=False) as plain:
        assert plain.stdout is not None and plain.stdout.readline() == "working\n"
        with gpu_run(served, tmp_path / "on server", "quick") as second:
            wait_for(lambda: slots() == 1)
            time.sleep(1.5)
            assert second.poll() is None, "the second got the GPU while the first had it"
            plain.kill()
            plain.wait()
            assert second.stdout is not None and second.stdout.readline() == "1\n"
            assert second.wait(timeout=WAIT_SECONDS) == 0
    assert slots() == 0


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
