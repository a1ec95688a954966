"""Backfills of real runs: one fails, all are interrupted, the backfill is killed, a server runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from faulting import assert_nothing_is_left, wait_until
from served import Served

from command_line import MICRO, Tsuzuki

pytestmark = pytest.mark.faults


def write_month(folder: Path, month: str) -> None:
    folder.mkdir(exist_ok=True)
    rows = [{"id": f"{month}-{n}", "text": f"{month} の {n} 番目の文章です。\u3000続き👩‍👩‍👧"} for n in range(50)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / f"{month}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def months(corpus: Path, store: Path, *further: object) -> list[object]:
    source = f"source={{kind: local, path: '{corpus}/{{month}}.jsonl'}}"
    span = ("--months", "2025-01..2025-02", "--until", "acquire")
    return ["backfill", "demo", "--config", MICRO, "--set", source, "--store", store, *span, *further]


def lines_of(told: str) -> list[dict[str, Any]]:
    return sorted((json.loads(line) for line in told.splitlines()), key=lambda line: line["value"])


def sealed(store: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in store.glob("acquire/*/manifest.json")}


def test_one_month_that_fails_stops_no_other_and_is_all_that_is_left_to_do(tmp_path, fault_log):
    corpus, store = tmp_path / "コーパス", tmp_path / "store"
    write_month(corpus, "2025-02")
    with fault_log.trying("a month of a backfill is missing") as recovery:
        first = lines_of(Tsuzuki()(*months(corpus, store, "--parallel", 2), code=1).stdout)
        assert [(line["value"], line["status"]) for line in first] == [("2025-01", "failed"), ("2025-02", "completed")]
        assert "2025-01.jsonl" in first[0]["error"]
        before = sealed(store)
        assert len(before) == 1
        recovery.begin()
        write_month(corpus, "2025-01")
        second = lines_of(Tsuzuki()(*months(corpus, store), code=0).stdout)
        assert {line["status"] for line in second} == {"completed"}
        assert len(sealed(store)) == 2 and before.items() <= sealed(store).items(), "a month was done again"
        assert_nothing_is_left(store)


def test_after_a_failure_no_more_is_begun_where_that_was_asked_for(tmp_path):
    corpus, store = tmp_path / "corpus", tmp_path / "store"
    write_month(corpus, "2025-02")
    told = lines_of(Tsuzuki()(*months(corpus, store, "--stop-on-failure"), code=1).stdout)
    assert [(line["value"], line["status"]) for line in told] == [("2025-01", "failed"), ("2025-02", "skipped")]
    assert not sealed(store)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_an_interrupted_backfill_leaves_no_process_and_continues(tmp_path, fault_log, number, code):
    store = tmp_path / "store"
    seeds = ("--over", "pretrain.seed=1,2", "--until", "pretrain", "--set", "pretrain.max_steps=300")
    words = ("backfill", "demo", "--config", MICRO, *seeds, "--parallel", 2, "--store", store)
    with fault_log.trying(f"backfill of two trainings ended by {number.name}") as recovery:
        run = Tsuzuki().start(*words)
        wait_until(lambda: len(list(store.glob(".partial/pretrain-*/.scratch/checkpoints/step-*"))) >= 2, run)
        below = psutil.Process(run.pid).children(recursive=True)
        os.kill(run.pid, number)
        run.communicate(timeout=120)
        assert run.returncode == code
        psutil.wait_procs(below, timeout=60)
        assert not [process for process in below if is_alive(process)]
        recovery.begin()
        assert {line["status"] for line in lines_of(Tsuzuki()(*words).stdout)} == {"completed"}
        assert len(list(store.glob("pretrain/*/manifest.json"))) == 2
        assert_nothing_is_left(store)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_same_backfill_on_a_deployment_makes_no_run_twice_and_retries_what_failed(tmp_path, fault_log):
    served = Served(tmp_path)
    corpus = tmp_path / "corpus"
    write_month(corpus, "2025-01")
    environment = {**os.environ, "PREFECT_API_URL": served.url}
    words = [*Tsuzuki.command, *map(str, months(corpus, served.store, "--deployment", "corpus/corpus-workshop"))]

    def backfill(code: int) -> list[dict[str, Any]]:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == code, done.stderr
        return lines_of(done.stdout)

    try:
        with fault_log.trying("a month of a backfill on a server is missing") as recovery:
            first = backfill(1)
            assert [line["status"] for line in first] == ["completed", "failed"]
            recovery.begin()
            write_month(corpus, "2025-02")
            second = backfill(0)
            assert [line["status"] for line in second] == ["completed", "completed"]
            assert [line["flow_run"] for line in second] == [line["flow_run"] for line in first]
            runs = served.post("/flow_runs/filter", {"flow_runs": {"tags": {"all_": ["backfill"]}}})
            assert sorted(run["run_count"] for run in runs) == [1, 2]
    finally:
        served.stop()
