"""kill -9 in the middle of each stage, then the same command: the digests of an undisturbed run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from command_line import MICRO, Tsuzuki, digests
from tasks.stages import STAGES


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, str]:
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    Tsuzuki().stages("demo", "--config", MICRO, "--store", store)
    return digests(store)


def kill_in(stage: str, store: Path) -> None:
    """Starts the run and kills its main process with -9 once it works on that stage."""
    run = Tsuzuki().start("run", "demo", "--config", MICRO, "--store", store)
    deadline = time.monotonic() + 120
    while not _at_work(stage, store):
        assert run.poll() is None, run.stderr.read() if run.stderr else ""
        assert time.monotonic() < deadline, f"{stage} did not start"
        time.sleep(0.002)
    children = psutil.Process(run.pid).children(recursive=True)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    if run.stderr:
        run.stderr.close()
    psutil.wait_procs(children, timeout=60)
    assert not [c for c in children if c.is_running()], "processes outlive the killed run"


def _at_work(stage: str, store: Path) -> bool:
    """Whether the stage has begun; for a training, whether it has written a checkpoint."""
    partial = next(store.glob(f".partial/{stage}-*"), None)
    if partial is None:
        return False
    return stage not in ("pretrain", "lora") or any(partial.glob(".scratch/checkpoints/step-*"))


def test_a_run_killed_in_every_stage_ends_like_an_undisturbed_one(undisturbed, tmp_path):
    store = tmp_path / "store"
    for stage in STAGES:
        kill_in(stage, store)
        assert stage not in digests(store)
    lines = Tsuzuki().stages("demo", "--config", MICRO, "--store", store)
    assert lines["deliver"]["status"] == "built"
    assert digests(store) == undisturbed
    assert not list((store / ".partial").iterdir())
