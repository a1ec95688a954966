"""A failed flow run that is retried in the UI: what it sealed is Cached and not rebuilt again, its training resumes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import psutil
import pytest
from served import Served, micro_config, wait_for

from tasks.stages import PRETRAIN

pytestmark = pytest.mark.faults
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def test_a_run_that_failed_continues_and_rebuilds_nothing_twice(tmp_path, fault_log):
    served = Served(tmp_path)
    config = micro_config()
    config["pretrain"] |= {"max_steps": 400, "checkpoint_every_steps": 5}
    try:
        before = served.trigger("pipeline/demo", {"config": config, "until": "filter"})
        assert served.end_of(before) == "COMPLETED"
        old = times(served, "filter")
        with fault_log.trying("training worker killed more often than it is tried again") as recovery:
            parameters = {"config": config, "until": "pretrain", "rebuild_from": "filter"}
            run_id = served.trigger("pipeline/demo", parameters)
            assert kill_trainings(served, run_id) == 1 + PRETRAIN.retries
            assert served.get(f"/flow_runs/{run_id}")["state_type"] == "FAILED"
            rebuilt = times(served, "filter")
            assert rebuilt != old, "--from filter did not rebuild it"
            recovery.begin()
            retry_in_ui(served, run_id)
            assert served.end_of(run_id) == "COMPLETED"
        assert times(served, "filter") == rebuilt, "the retried run rebuilt again what it had rebuilt"
        states = states_of_tasks(served, run_id)
        for stage in ("acquire", "filter", "dedup", "split", "base_model", "binarize"):
            assert states[stage]["Cached"] >= 1, states
        assert states["acquire"] == Counter(Cached=2)
        assert states["filter"] == Counter(Completed=1, Cached=1)
        assert states["pretrain"] == Counter(Failed=1, Completed=1)
        assert status_of_training(served, run_id) == "resumed"
    finally:
        served.stop()


def retry_in_ui(served: Served, run_id: str) -> None:
    state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
    assert served.post(f"/flow_runs/{run_id}/set_state", {"state": state})["status"] == "ACCEPT"


def kill_trainings(served: Served, run_id: str) -> int:
    """Kills each training once it has a checkpoint, until the flow run ends; how many it were."""
    killed: set[int] = set()

    def ended() -> bool:
        if any(served.store.glob(".partial/pretrain-*/.scratch/checkpoints/step-*")):
            for process in served.processes():
                if process.pid not in killed and "tasks.worker" in words_of(process):
                    killed.add(process.pid)
                    process.kill()
        return served.get(f"/flow_runs/{run_id}")["state_type"] in FINAL

    wait_for(ended, 300)
    return len(killed)


def words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def times(served: Served, stage: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in served.store.glob(f"{stage}/*/manifest.json")}


def states_of_tasks(served: Served, run_id: str) -> dict[str, Counter[str]]:
    """How often each stage's task runs of that flow run ended in which state; told in the background, so waited for."""
    wanted = {"flow_runs": {"id": {"any_": [run_id]}}, "limit": 200}
    found = wait_for(lambda: all_final(served.post("/task_runs/filter", wanted)))
    states: dict[str, Counter[str]] = {}
    for task in found:
        states.setdefault(task["name"].split(":")[0], Counter())[task["state_name"]] += 1
    return states


def all_final(tasks: list[dict]) -> list[dict]:
    return tasks if all(task["state_type"] in FINAL for task in tasks) else []


def status_of_training(served: Served, run_id: str) -> str:
    values = {
        "filter": {
            "event": {"name": ["tsuzuki.stage.sealed"]},
            "related": {"id": [f"prefect.flow-run.{run_id}"]},
            "resource": {"id": ["tsuzuki.stage.pretrain"]},
        }
    }
    return wait_for(lambda: served.post("/events/filter", values)["events"])[0]["payload"]["status"]
