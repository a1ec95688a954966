"""A flow whose only stage works on a GPU that is not there: `hold_gpu`, deployed by tests that cancel it.

MODE `group` starts a worker that ignores SIGTERM, with a child that does too; `pool` has two worker processes with one
endless job each.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

from prefect import flow
from pydantic import BaseModel, ConfigDict

from data_contracts.artifacts import RawCorpus
from data_contracts.manifest import Summary
from flows.running import no_process_left
from flows.stage_flow import PrefectRun
from infra.settings import load_settings
from tasks.job import run_worker
from tasks.parallel import map_jobs
from tasks.runtime import Runtime
from tasks.stage import Stage
from tasks.workspace import Workspace

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


class HoldConfig(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    mode: str
    device: Literal["cpu", "cuda"] = "cuda"


def hold(config: HoldConfig, workspace: Workspace) -> Summary:
    workspace.scratch.mkdir(parents=True, exist_ok=True)
    if config.mode == "group":
        run_worker("cancel_stories:ignore_sigterm", {"told": str(workspace.scratch / "deaf")}, workspace)
    else:
        list(map_jobs(stay, [str(workspace.scratch / f"at-work-{n}") for n in (1, 2)], runtime=workspace.runtime,
                      num_bytes=1 << 30))  # fmt: skip
    return Summary()


def ignore_sigterm(told: str, emit: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline()
        Path(told).write_text(f"{os.getpid()} {child.pid}", encoding="utf-8")
        time.sleep(600)


def stay(told: str) -> None:
    Path(told).write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(600)


@flow(name="hold-gpu")
def hold_gpu(name: str, mode: str) -> None:
    settings = load_settings()
    runtime = Runtime(store=settings.store, workers=2, cancel_grace_seconds=settings.cancel_grace_seconds)
    stage = Stage("acquire", RawCorpus, 1, "cancel_stories:hold", "Holds the GPU.")
    with no_process_left():
        PrefectRun(runtime)(stage, HoldConfig(name=name, mode=mode))
