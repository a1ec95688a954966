"""`tsuzuki serve` on PostgreSQL: its worker, a flow run and the database are killed; the run completes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import psutil
import pytest
from faulting import assert_nothing_is_left
from served import END_SECONDS, Postgres, Served, micro_config, wait_for

from command_line import digests
from flows.service.lost_runs import flow_run_of
from tasks.stages import STAGES

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not shutil.which("initdb") or not shutil.which("pg_ctl"), reason="no PostgreSQL here"),
]


@pytest.fixture
def database() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.remove()


def words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


FAULT = "worker and flow killed, PostgreSQL stopped at once, its postmaster killed"


def test_a_run_survives_its_worker_its_process_and_its_database(database, tmp_path, fault_log):
    served = Served(tmp_path, PREFECT_API_DATABASE_CONNECTION_URL=database.url)
    try:
        assert not (served.home / "prefect.db").exists()
        with fault_log.trying(FAULT) as recovery:
            run_id = served.trigger("pipeline/demo", {"config": micro_config()})
            wait_for(lambda: [p for p in served.processes() if "tasks.worker" in words_of(p)], END_SECONDS)
            for process in served.processes():
                if flow_run_of(process) == run_id or {"prefect", "worker"} <= set(words_of(process)):
                    process.kill()
            wait_for(lambda: "scheduled again, it continues" in served.log.read_text(encoding="utf-8"))
            wait_for(lambda: served.get(f"/flow_runs/{run_id}")["state_type"] == "RUNNING")
            database.stop()
            database.start()
            served.get(f"/flow_runs/{run_id}")
            database.kill()
            database.start()
            recovery.begin()
            assert served.end_of(run_id) == "COMPLETED"
            assert served.get(f"/flow_runs/{run_id}")["run_count"] == 2
            assert set(digests(served.store)) == set(STAGES)
    finally:
        served.stop()
    assert_nothing_is_left(served.store)
