"""Stages that fail for real, run as Prefect tasks with quick retries: python -m retry_bodies STORE.

Prints one JSON object: by failure, how often the body ran, what came of it, and the seconds that Prefect waited.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from data_contracts.artifacts import RawCorpus
from data_contracts.errors import ConfigError, DamagedArtifact, DataError, ModelError, TransientSourceError
from data_contracts.manifest import Summary
from tasks.job import run_worker
from tasks.parallel import map_jobs
from tasks.runtime import Runtime
from tasks.stages import ACQUIRE, FILTER
from tasks.workspace import Workspace

DELAYS = (0.1, 0.4)
DELAY = re.compile(r"will start ([0-9.]+) second")
TWICE = 2


class FailureConfig(BaseModel):
    model_config = ConfigDict(frozen=True)

    failure: str
    witness: Path


def fail(config: FailureConfig, workspace: Workspace) -> Summary:
    """Fails twice where the failure is one that passes, else for ever."""
    with open(config.witness, "a", encoding="utf-8") as file:
        file.write("attempt\n")
    attempt = len(config.witness.read_text(encoding="utf-8").splitlines())
    if attempt <= TWICE or config.failure not in PASSING:
        FAILURES[config.failure](workspace)
    workspace.write_bytes("ledger.parquet", b"x")
    return Summary()


def lose_pool_process(workspace: Workspace) -> None:
    list(map_jobs(kill_this_process, [1, 2], runtime=workspace.runtime, num_bytes=1 << 30))


def lose_worker(workspace: Workspace) -> None:
    run_worker("retry_bodies:vanish", {}, workspace)


def lose_worker_amid_a_word(workspace: Workspace) -> None:
    run_worker("retry_bodies:vanish_amid_a_word", {}, workspace)


def lose_network(workspace: Workspace) -> None:
    try:
        urllib.request.urlopen("http://127.0.0.1:9/", timeout=5)
    except OSError as error:
        raise TransientSourceError(f"`127.0.0.1:9`: {error}") from error


def fill_disk(workspace: Workspace) -> None:
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


def give_up(kind: type[Exception]) -> Any:
    def fail_so(workspace: Workspace) -> None:
        raise kind("`x`: found y, expected z")

    return fail_so


PASSING = {
    "pool process killed": lose_pool_process,
    "worker killed": lose_worker,
    "network gone": lose_network,
}
"""The kernel kills so when memory runs out."""
FAILURES = {
    **PASSING,
    "worker killed amid a word": lose_worker_amid_a_word,
    "disk full": fill_disk,
    **{kind.__name__: give_up(kind) for kind in (ConfigError, DamagedArtifact, DataError, ModelError, KeyError)},
}


def kill_this_process(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def vanish(emit: Any) -> None:
    kill_this_process(0)


def vanish_amid_a_word(emit: Any) -> None:
    os.write(emit.__closure__[0].cell_contents.fileno(), b'{"event": "done", "resu')
    kill_this_process(0)


class Delays(logging.Handler):
    """What Prefect's task engine says of the delays it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        if found := DELAY.search(record.getMessage()):
            self.seconds.append(float(found[1]))


def main(store: Path) -> None:
    from prefect import flow

    from flows.stage_flow import PrefectRun

    told: dict[str, Any] = {}
    handler = Delays()
    logging.getLogger("prefect.task_runs").addHandler(handler)

    @flow(name="failures")
    def failures() -> None:
        for failure in FAILURES:
            stage = ACQUIRE if failure == "network gone" else FILTER
            quick = replace(
                stage, output=RawCorpus, body="retry_bodies:fail", outside=None, retry_delays_seconds=DELAYS, retries=2
            )
            config = FailureConfig(failure=failure, witness=store.parent / f"{failure}.txt")
            handler.seconds = []
            try:
                PrefectRun(Runtime(store=store, workers=2))(quick, config)
                end = "built"
            except Exception as error:
                end = type(error).__name__
            attempts = len(config.witness.read_text(encoding="utf-8").splitlines())
            told[failure] = {"attempts": attempts, "end": end, "delays": handler.seconds}

    failures()
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
