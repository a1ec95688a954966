"""Cancel in the UI: within 30 s no process of the run is left, its checkpoint is whole, its slot of the GPU is free."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from served import Served, micro_config, wait_for

from command_line import MICRO, ROOT
from flows.service.lost_runs import flow_run_of
from tasks.runtime import Runtime

pytestmark = pytest.mark.faults
LIMIT_SECONDS = 30
STEPS = 400
"""Some seconds of training beyond the first checkpoint."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    service = Served(tmp_path_factory.mktemp("served"), PYTHONPATH=path, TSUZUKI_WORKERS="2")
    deploy_hold_gpu(service)
    yield service
    service.stop()


def deploy_hold_gpu(served: Served) -> None:
    flow = served.post("/flows/", {"name": "hold-gpu"})
    served.post(
        "/deployments/",
        {
            "name": "test",
            "flow_id": flow["id"],
            "entrypoint": "cancel_stories.hold_gpu",
            "work_pool_name": "tsuzuki",
            "work_queue_name": "gpu",
        },
    )


def processes_of(run_id: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if flow_run_of(process) == run_id]


def cancel(served: Served, run_id: str) -> float:
    """Cancels as the UI does; seconds until no process of the run was left, and the server knew it."""
    before = processes_of(run_id)
    started = time.monotonic()
    told = served.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    assert told["status"] == "ACCEPT"
    wait_for(lambda: not processes_of(run_id) and not any(is_alive(process) for process in before))
    gone = time.monotonic() - started
    assert served.end_of(run_id) == "CANCELLED"
    print(f"cancelled: {gone:.1f} s until no process was left, {time.monotonic() - started:.1f} s until the state")
    return gone


def states(served: Served, run_id: str) -> list:
    return [
        (s["timestamp"][14:23], s["name"], s["message"]) for s in served.get(f"/flow_run_states/?flow_run_id={run_id}")
    ]


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def retry(served: Served, run_id: str) -> None:
    """The UI's button Retry."""
    state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
    assert served.post(f"/flow_runs/{run_id}/set_state", {"state": state})["status"] == "ACCEPT"


def checkpoints(served: Served) -> list[Path]:
    return sorted(served.store.glob(".partial/pretrain-*/.scratch/checkpoints/step-*"))


def build_tokens(store: Path) -> None:
    """All that a training needs, by plain function calls."""
    from flows.configuration import load_config
    from flows.pipeline_flow import pipeline_story
    from flows.runs import Run, Stopped

    with pytest.raises(Stopped):
        pipeline_story(load_config("demo", MICRO), Run(Runtime(store=store), until="binarize"))


@pytest.mark.filterwarnings("ignore")  # of prefect, imported by this process
def test_a_cancelled_training_leaves_its_checkpoint_and_continues_when_it_is_retried(served, fault_log):
    from tasks.training.checkpoints import CheckpointFolder

    build_tokens(served.store)
    config = micro_config()
    config["pretrain"] |= {"max_steps": STEPS, "checkpoint_every_steps": 5}
    with fault_log.trying("training cancelled in the UI") as recovery:
        run_id = served.trigger("pipeline/demo", {"config": config, "until": "pretrain"})
        wait_for(lambda: checkpoints(served), 500)
        assert cancel(served, run_id) < LIMIT_SECONDS
        warnings: list[str] = []
        found = CheckpointFolder(checkpoints(served)[0].parent, 2).load_latest(warnings.append)
        assert found is not None and 0 < found.state["step"] < STEPS
        assert not warnings, "the newest checkpoint was not whole"
        recovery.begin()
        retry(served, run_id)
        assert served.end_of(run_id) == "COMPLETED", states(served, run_id)
        told = events_of(served, run_id, "tsuzuki.stage.resumed")
        assert [event["resource"]["tsuzuki.stage"] for event in told] == ["pretrain"]


def events_of(served: Served, run_id: str, name: str) -> list[dict]:
    related = {"id": [f"prefect.flow-run.{run_id}"]}
    values = {"filter": {"event": {"name": [name]}, "related": related}, "limit": 50}
    return wait_for(lambda: served.post("/events/filter", values)["events"])


def test_a_worker_that_ignores_sigterm_is_killed_with_its_group_and_the_gpu_is_free(served, fault_log):
    with fault_log.trying("deaf worker cancelled in the UI, another run waiting for its GPU") as recovery:
        deaf = served.trigger("hold-gpu/test", {"name": "deaf", "mode": "group"})
        wait_for(lambda: at_work(served, "deaf"))
        waiting = served.trigger("hold-gpu/test", {"name": "waiting", "mode": "pool"})
        wait_for(lambda: len(running_tasks(served)) == 2)
        assert cancel(served, waiting) < LIMIT_SECONDS
        assert slots_taken(served) == 1, "the run that works has lost its slot"
        recovery.begin()
        assert cancel(served, deaf) < LIMIT_SECONDS
        wait_for(lambda: slots_taken(served) == 0)


def test_worker_processes_amid_a_long_job_end_with_their_run(served, fault_log):
    shutil.rmtree(served.store / ".partial", ignore_errors=True)
    with fault_log.trying("worker processes cancelled in the UI amid a long job"):
        run_id = served.trigger("hold-gpu/test", {"name": "pool", "mode": "pool"})
        wait_for(lambda: len(at_work(served, "at-work-*")) == 2)
        assert cancel(served, run_id) < LIMIT_SECONDS
        wait_for(lambda: slots_taken(served) == 0)


def at_work(served: Served, name: str) -> list[Path]:
    return list(served.store.glob(f".partial/acquire-*/.scratch/{name}"))


def running_tasks(served: Served) -> list[dict]:
    return served.post("/task_runs/filter", {"task_runs": {"state": {"type": {"any_": ["RUNNING"]}}}})


def slots_taken(served: Served) -> int:
    return served.get("/v2/concurrency_limits/tsuzuki-gpu")["active_slots"]


@pytest.mark.parametrize("stage", ["filter", "dedup"])
def test_a_cancelled_corpus_stage_leaves_no_process(served, fault_log, stage):
    config = micro_config() | {"source": {"num_documents": 12_000, "seed": len(stage)}}
    with fault_log.trying(f"{stage} cancelled in the UI") as recovery:
        run_id = served.trigger("pipeline/demo", {"config": config, "until": stage})
        wait_for(lambda: list(served.store.glob(f".partial/{stage}-*")), 500)
        assert cancel(served, run_id) < LIMIT_SECONDS
        recovery.begin()
        retry(served, run_id)
        assert served.end_of(run_id) == "COMPLETED", states(served, run_id)
