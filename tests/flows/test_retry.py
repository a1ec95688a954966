"""A lost worker and a network that is gone are tried again, later and later; what stays wrong is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from command_line import ROOT
from data_contracts import errors
from data_contracts.artifacts import Corpus
from data_contracts.errors import TsuzukiError, WorkerLost
from flows.runs import Reporter, Run, reporter
from stage_bodies import BodyConfig
from tasks.parallel import map_jobs
from tasks.runtime import Runtime
from tasks.stage import Stage
from tasks.stages import ALL_STAGES

LOST = "a worker process lost"
LOST_OR_NETWORK = "a worker process lost, the network or a server away"
RETRIES = {
    "acquire": (LOST_OR_NETWORK, (5, 20, 80)),
    "filter": (LOST, (5, 20)),
    "dedup": (LOST, (5, 20)),
    "split": (LOST, (5, 20)),
    "base_model": (LOST_OR_NETWORK, (5, 20, 80)),
    "nemo_checkpoint": (LOST, (5, 20)),
    "binarize": (LOST, (5, 20)),
    "pretrain": (LOST, (5, 20)),
    "instructions": ("", ()),
    "lora": (LOST, (5, 20)),
    "export": (LOST, (5, 20)),
    "evaluate": (LOST, (5, 20)),
    "deliver": ("", ()),
}
"""Stage: what is tried again, and the seconds before each attempt, which Prefect spreads by half."""


def test_the_table_of_retries_is_what_the_stages_say():
    said = {stage.name: stage.retry_delays_seconds[: stage.retries] for stage in ALL_STAGES.values()}
    assert said == {name: delays for name, (_, delays) in RETRIES.items()}
    assert all(stage.retries <= len(stage.retry_delays_seconds) for stage in ALL_STAGES.values())
    assert all(bool(what) == bool(delays) for what, delays in RETRIES.values())


def test_of_all_errors_two_kinds_are_tried_again():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TsuzukiError)]
    assert {kind.__name__ for kind in kinds if kind.retryable} == {"WorkerLost", "TransientSourceError"}


def test_what_passes_is_tried_again_after_growing_delays_and_what_stays_wrong_is_not(tmp_path):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    done = subprocess.run(
        [sys.executable, "-m", "retry_bodies", str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": path, "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    passing = {"pool process killed", "worker killed", "network gone"}
    assert {failure for failure in told if told[failure]["end"] == "built"} == passing
    assert all(told[failure]["attempts"] == 3 for failure in passing)
    for_ever = told["worker killed amid a word"]
    assert (for_ever["attempts"], for_ever["end"]) == (3, "WorkerLost")
    lasting = told.keys() - passing - {"worker killed amid a word"}
    assert {told[failure]["attempts"] for failure in lasting} == {1}
    assert told["disk full"]["end"] == "StorageError"
    firsts, seconds = zip(*(told[failure]["delays"] for failure in passing), strict=True)
    assert all(0.05 <= first <= 0.15 for first in firsts) and all(0.2 <= second <= 0.6 for second in seconds)
    assert len(set(firsts)) == len(firsts), "every delay was the same"


def test_a_dask_scheduler_that_goes_is_a_loss_that_is_tried_again(tmp_path):
    from distributed import LocalCluster

    from tasks.dask_engine import client_of

    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        runtime = Runtime(store=tmp_path, engine="dask", scheduler_address=cluster.scheduler_address)
        results = map_jobs(time.sleep, [0, 60], runtime=runtime, num_bytes=1 << 30)
        next(results)
        client = client_of(runtime.scheduler_address, runtime.workers)
    with pytest.raises(WorkerLost, match="scheduler is gone"):
        next(results)
    assert client_of.cache_info().currsize == 0, "the next attempt would ask a scheduler that is gone"
    client.close()


def built(run: Run, config: BodyConfig, *names: str) -> list[str]:
    """What a run of stages, each made from the one before, does with each."""
    made: dict[str, Any] = {}
    statuses: list[str] = []
    outer = reporter.set(Statuses(statuses))
    for name in names:
        made = {"before": run(Stage(name, Corpus, 1, "stage_bodies:write_text", "a test"), config, **made)}
    reporter.reset(outer)
    return statuses


class Statuses(Reporter):
    def __init__(self, statuses: list[str]) -> None:
        self.statuses = statuses

    def finished(self, stage: Stage, status: str, path: Path, seconds: float) -> None:
        self.statuses.append(status)


def test_a_run_that_is_retried_does_not_build_again_what_it_has_rebuilt_itself(tmp_path):
    runtime, config = Runtime(store=tmp_path / "store"), BodyConfig(witness=tmp_path / "calls")
    stages = ("filter", "dedup", "split")
    assert built(Run(runtime), config, *stages) == ["built"] * 3
    first = Run(runtime, rebuild_from="dedup")
    assert built(first, config, *stages[:2]) == ["cached", "built"]  # killed here
    retried = Run(runtime, rebuild_from="dedup", began=first.began)
    assert built(retried, config, *stages) == ["cached", "cached", "built"]
    assert built(Run(runtime, rebuild_from="dedup", began=first.began), config, *stages) == ["cached"] * 3
    assert built(Run(runtime, rebuild_from="dedup"), config, *stages) == ["cached", "built", "built"]
