"""What stands in for NeMo where the starting of processes is tested: `main(job)`, run by every process of a training.

The job is JSON: `mode`, `events`, and `folder` for what a process leaves to be looked at.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from data_contracts.errors import DataError


def main(job_path: str) -> None:
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    rank, folder = int(os.environ.get("RANK", 0)), Path(job["folder"])
    MODES[job["mode"]](rank, folder, Path(job["events"]))


def reduce_over_gloo(rank: int, folder: Path, events: Path) -> None:
    import torch

    torch.distributed.init_process_group("gloo")
    total = torch.tensor([rank + 1])
    torch.distributed.all_reduce(total)
    torch.distributed.destroy_process_group()
    token = os.environ.get("HF_TOKEN", "")
    tell(rank, events, event="step", loss=float(total), token_ends=token[-4:], 名前="続き")


def refuse(rank: int, folder: Path, events: Path) -> None:
    if rank == 1:
        raise DataError("`3 行目`: found nothing, expected text", hint="fill it in")
    time.sleep(60)


def crash(rank: int, folder: Path, events: Path) -> None:
    if rank == 1:
        raise ZeroDivisionError("by zero")
    time.sleep(60)


def end_well(rank: int, folder: Path, events: Path) -> None:
    tell(rank, events, event="step", loss=1.0)


def wait(rank: int, folder: Path, events: Path) -> None:
    """Until told to leave; then it takes a moment for its checkpoint, as training does."""

    def leave(*_: object) -> None:
        time.sleep(1)
        (folder / f"checkpoint-{rank}").write_text("whole", encoding="utf-8")
        sys.exit(1)

    signal.signal(signal.SIGTERM, leave)
    (folder / f"pid-{rank}").write_text(f"{os.getpid()} {os.getppid()}", encoding="utf-8")
    tell(rank, events, event="waiting")
    while True:
        time.sleep(0.1)


def ignore_everything(rank: int, folder: Path, events: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / f"pid-{rank}").write_text(f"{os.getpid()} {os.getppid()}", encoding="utf-8")
    tell(rank, events, event="waiting")
    time.sleep(600)


def tell(rank: int, events: Path, **event: object) -> None:
    if rank == 0:
        with open(events, "a", encoding="utf-8") as file:
            file.write(json.dumps(event, ensure_ascii=False) + "\n")


MODES = {mode.__name__: mode for mode in (reduce_over_gloo, refuse, crash, end_well, wait, ignore_everything)}


def launch_it(jobs: list[tuple[str, dict]], emit, grace_seconds: float = 20.0) -> list[str]:
    """Launches jobs, each with its executor, one after another in the worker; what became of each."""
    from tasks.training.executors import executor_of
    from tasks.training.launching import launch

    outcomes = []
    for job, executor in jobs:
        events = Path(json.loads(Path(job).read_text(encoding="utf-8"))["events"])
        try:
            executor_made = executor_of(executor)
            launch(Path(job), events, executor_made, emit, module="stand_in_process", grace_seconds=grace_seconds)
            outcomes.append("ended well")
        except Exception as error:
            if len(jobs) == 1:
                raise
            outcomes.append(f"{type(error).__name__}: {error}")
    return outcomes


def dry_runs(job_path: str, executors: list[dict], emit) -> list[str]:
    """What would be submitted for each executor, or the error; of one worker, since it has to import NeMo-Run."""
    from data_contracts.errors import TsuzukiError
    from tasks.training.launching import dry_run_of

    texts = []
    for executor in executors:
        try:
            texts.append(dry_run_of(job_path, executor, emit))
        except TsuzukiError as error:
            texts.append(f"{type(error).__name__}: {error}")
    return texts
