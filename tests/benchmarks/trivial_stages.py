"""A chain of stages that do next to nothing, run in four ways: what is measured is what stands around a stage.

    python tests/benchmarks/trivial_stages.py functions|run|tasks|stages FOLDER NUMBER

prints one JSON object: seconds from the start of this process to the first stage, of all stages, and of what comes
after them in the flow (Prefect sends what it has not told yet). A second call with the same folder is the cached run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.artifacts import InstructionSet
from data_contracts.manifest import Summary
from tasks.runtime import Runtime
from tasks.stage import Stage
from tasks.workspace import Workspace

NAMES = ("train.jsonl", "validation.jsonl")


class TrivialConfig(BaseModel):
    """Which stage of the chain it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(description="Place in the chain.")


def lines_of(number: int) -> bytes:
    return json.dumps({"prompt": str(number), "response": "はい", "document": "d"}, ensure_ascii=False).encode() + b"\n"


def write_lines(config: TrivialConfig, workspace: Workspace, previous: InstructionSet | None = None) -> Summary:
    for name in NAMES:
        workspace.write_bytes(name, lines_of(config.number))
    return Summary(counts={"num_rows": len(NAMES)})


TRIVIAL = Stage("trivial", InstructionSet, revision=1, body="trivial_stages:write_lines", summary="two short files")


def chain(run: Any, number: int) -> None:
    previous: dict[str, Any] = {}
    for place in range(number):
        previous = {"previous": run(TRIVIAL, TrivialConfig(number=place), **previous)}


class Clock:
    """Seconds of this process by what it was doing."""

    def __init__(self) -> None:
        # The wall clock is the only one that knows when the process began.
        self.before = time.time() - psutil.Process().create_time()

    def time_stages(self, work: Callable[[], None]) -> None:
        self.before = time.time() - psutil.Process().create_time()
        started = time.perf_counter()
        work()
        self.ended = time.perf_counter()
        self.stages = self.ended - started

    def told(self) -> str:
        after = time.perf_counter() - self.ended
        return json.dumps({"before": self.before, "stages": self.stages, "after": after})


def functions(folder: Path, number: int, clock: Clock) -> None:
    """The files by plain calls of one function."""

    def write(place: int) -> Path:
        target = folder / f"{place:04d}"
        target.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            (target / name).write_bytes(lines_of(place))
        return target

    clock.time_stages(lambda: [write(place) for place in range(number)] and None)


def run(folder: Path, number: int, clock: Clock) -> None:
    """Our stages without Prefect."""
    from flows.runs import Run

    clock.time_stages(lambda: chain(Run(Runtime(store=folder)), number))


def tasks(folder: Path, number: int, clock: Clock) -> None:
    """The peer: tasks of Prefect that keep their results, without Tsuzuki."""
    from prefect import flow, task
    from prefect.cache_policies import INPUTS

    @task(persist_result=True, cache_policy=INPUTS)
    def write(previous: str | None, place: int) -> str:
        target = folder / f"{place:04d}"
        target.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            (target / name).write_bytes(lines_of(place))
        return str(target)

    def work() -> None:
        previous = None
        for place in range(number):
            previous = write(previous, place)

    @flow(name="tasks", persist_result=False)
    def peer() -> None:
        clock.time_stages(work)

    peer()


def stages(folder: Path, number: int, clock: Clock) -> None:
    """Our stages as tasks of Prefect."""
    from prefect import flow

    from flows.stage_flow import PrefectRun

    @flow(name="stages", persist_result=False)
    def ours() -> None:
        run = PrefectRun(Runtime(store=folder), title="trivial", tags=("tsuzuki", "overhead"))
        clock.time_stages(lambda: chain(run, number))

    ours()


def main() -> None:
    from infra.settings import prepare_prefect

    prepare_prefect()
    way, folder, number = sys.argv[1:]
    clock = Clock()
    ways = {"functions": functions, "run": run, "tasks": tasks, "stages": stages}
    ways[way](Path(folder).absolute(), int(number), clock)
    print(clock.told(), flush=True)


if __name__ == "__main__":
    main()
