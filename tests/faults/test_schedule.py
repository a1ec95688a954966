"""A deployment on a schedule fires within its minute, and a worker killed in mid-training changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psutil
import pytest
from served import END_SECONDS, Served, micro_config, wait_for

from command_line import MICRO, Tsuzuki, digests
from flows.service.lost_runs import flow_run_of

pytestmark = pytest.mark.faults


def test_a_cron_fires_within_its_minute_and_its_run_outlives_its_worker(tmp_path, fault_log):
    Tsuzuki().stages("demo", "--config", MICRO, "--store", tmp_path / "undisturbed")
    served = Served(tmp_path)
    try:
        deployment = served.get("/deployments/name/pipeline/demo")["id"]
        served.ask("PATCH", f"/deployments/{deployment}", {"parameters": {"config": micro_config()}})
        every_minute = {"schedule": {"cron": "* * * * *", "timezone": "Asia/Tokyo"}, "active": True}
        served.post(f"/deployments/{deployment}/schedules", [every_minute])
        run = wait_for(lambda: begun(served, deployment), END_SECONDS)
        assert "auto-scheduled" in run["tags"]
        late = moment(run["start_time"]) - moment(run["expected_start_time"])
        assert 0 <= late.total_seconds() < 60
        served.ask("PATCH", f"/deployments/{deployment}", {"paused": True})
        with fault_log.trying("SIGKILL of the worker of a scheduled run in mid-training") as recovery:
            checkpoints = ".partial/pretrain-*/.scratch/checkpoints/step-*"
            wait_for(lambda: list(served.store.glob(checkpoints)), END_SECONDS)
            kill_worker(served, run["id"])
            recovery.begin()
            assert served.end_of(run["id"]) == "COMPLETED"
        assert digests(served.store) == digests(tmp_path / "undisturbed")
    finally:
        served.stop()


def begun(served: Served, deployment: str) -> dict[str, Any] | None:
    wanted = {"deployments": {"id": {"any_": [deployment]}}, "flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    return next(iter(served.post("/flow_runs/filter", wanted)), None)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def kill_worker(served: Served, run_id: str) -> None:
    """SIGKILL to the worker and, as on a machine that goes down, to the run that it started."""
    for process in served.processes():
        try:
            if flow_run_of(process) == run_id or {"prefect", "worker"} <= set(process.cmdline()):
                process.kill()
        except psutil.NoSuchProcess:
            continue
