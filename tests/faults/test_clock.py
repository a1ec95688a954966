"""The wall clock jumps in the middle of a run, as when somebody sets it or a machine wakes up."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from faulting import assert_nothing_is_left, at_work, finish
from served import END_SECONDS, wait_for
from shifted_clock import ShiftedClock

from command_line import MICRO, Tsuzuki, digests
from tasks.stages import STAGES

pytestmark = pytest.mark.faults


def test_the_clock_jumps_ten_days_on_and_then_eleven_back(tmp_path, undisturbed, fault_log):
    clock, store, home = ShiftedClock(tmp_path), tmp_path / "store", tmp_path / "home"
    for stage in list(STAGES)[: list(STAGES).index("pretrain")]:
        shutil.copytree(undisturbed / stage, store / stage)
    run = Tsuzuki().start(
        *("run", "demo", "--config", MICRO, "--store", store), PREFECT_HOME=str(home), **clock.environment
    )
    with fault_log.trying("clock jump"), fault_log.trying("clock jump"):
        wait_for(lambda: run.poll() is not None or at_work("pretrain", store), END_SECONDS)
        clock.jump(days=10)
        wait_for(lambda: run.poll() is not None or at_work("lora", store), END_SECONDS)
        clock.jump(days=-1)
        finish(run)
    now = datetime.now(UTC)
    manifests = manifests_of(store)
    assert datetime.fromisoformat(manifests["pretrain"]["created_at"]) > now + timedelta(days=9)
    assert datetime.fromisoformat(manifests["deliver"]["created_at"]) < now - timedelta(hours=23)
    assert all(0 <= manifest["seconds"] < 300 for manifest in manifests.values())
    assert all(row.get("tokens_per_second", 1) > 0 for row in training_rows(store))
    assert digests(store) == digests(undisturbed)
    assert states(home, "flow_run") == {"COMPLETED"}
    # Prefect takes a state whose time lies before that of the last one for late, so the stage in which the clock went
    # back stays RUNNING in its list of tasks.
    assert states(home, "task_run") <= {"COMPLETED", "RUNNING"}
    assert_nothing_is_left(store)


def manifests_of(store: Path) -> dict[str, Any]:
    found = (json.loads(path.read_bytes()) for path in store.glob("[!.]*/*/manifest.json"))
    return {manifest["stage"]: manifest for manifest in found}


def training_rows(store: Path) -> list[dict[str, Any]]:
    logs = store.glob("*/*/logs/metrics.jsonl")
    return [json.loads(line) for log in logs for line in log.read_text(encoding="utf-8").splitlines()]


def states(home: Path, table: str) -> set[str]:
    """How Prefect's database says that the runs ended."""
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        return {state for (state,) in database.execute(f"SELECT state_type FROM {table}")}
