"""infra/automations.yaml with shorter times, on a server whose workers nobody watches over."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from faulting import FaultLog, assert_nothing_is_left
from self_hosted import SelfHosted, Webhook
from served import WAIT_SECONDS, Postgres, micro_config, wait_for

from command_line import ROOT, digests
from flows.recipes import PipelineConfig
from flows.service.lost_runs import flow_run_of
from tasks.stage import Request
from tasks.stages import ACQUIRE
from tasks.store import Store

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore")]
SILENT_SECONDS = 40
"""Prefect's heartbeats are 30 s apart at least."""
SHORTER = {
    "tsuzuki-silent-run-is-crashed": SILENT_SECONDS,
    "tsuzuki-crashed-run-continues": 10,
    "tsuzuki-corpus-is-old": 10,
}


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    listening = Webhook()
    yield listening
    listening.stop()


NEEDS_POSTGRES = pytest.mark.skipif(
    not shutil.which("initdb") or not shutil.which("pg_ctl"), reason="no PostgreSQL here"
)
on_both = pytest.mark.parametrize("server", ["SQLite", pytest.param("PostgreSQL", marks=NEEDS_POSTGRES)], indirect=True)
on_sqlite = pytest.mark.parametrize("server", ["SQLite"], indirect=True)


@pytest.fixture(scope="module")
def server(request, webhook, tmp_path_factory) -> Iterator[SelfHosted]:
    folder = tmp_path_factory.mktemp("hosted")
    database = Postgres() if request.param == "PostgreSQL" else None
    variables = {"PREFECT_API_DATABASE_CONNECTION_URL": database.url} if database else {}
    hosted = SelfHosted(folder, TSUZUKI_NOTIFY_URL=webhook.url, **variables)
    try:
        done = hosted.set_up(shorter_file(folder))
        assert done["left_out"] == []
        yield hosted
    finally:
        hosted.stop()
        if database:
            database.remove()


def shorter_file(folder: Path) -> Path:
    values = yaml.safe_load((ROOT / "infra" / "automations.yaml").read_text(encoding="utf-8"))
    for entry in values["automations"]:
        if entry["name"] in SHORTER:
            entry["trigger"]["within"] = SHORTER[entry["name"]]
    file = folder / "automations.yaml"
    file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return file


def processes_of(run_id: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if flow_run_of(process) == run_id]


@contextmanager
def begun_run(server: SelfHosted, store: Path) -> Iterator[str]:
    """Id of a run of which a heartbeat has come; its stage acquire waits for as long as the block lasts."""
    config = PipelineConfig.model_validate(micro_config())
    with Store(store).locked(Request.of(ACQUIRE, config.source, {})):
        run_id = server.trigger("pipeline/demo", {"config": micro_config(), "store": str(store), "until": "acquire"})
        wait_for(lambda: beats_of(server, run_id), 2 * WAIT_SECONDS)
        yield run_id


def beats_of(server: SelfHosted, run_id: str) -> list[dict[str, Any]]:
    beats = server.events("prefect.flow-run.heartbeat")
    return [beat for beat in beats if beat["resource"]["prefect.resource.id"].endswith(run_id)]


def states_of(server: SelfHosted, run_id: str) -> list[tuple[str, str]]:
    """Name and message of each state, oldest first."""
    states = server.get(f"/flow_run_states/?flow_run_id={run_id}")
    return [(s["name"], s["message"] or "") for s in sorted(states, key=lambda s: s["timestamp"])]


def assert_whole(server: SelfHosted, run_id: str, store: Path, num_starts: int) -> None:
    assert server.end_of(run_id) == "COMPLETED"
    assert server.get(f"/flow_runs/{run_id}")["run_count"] == num_starts
    assert set(digests(store)) == {"acquire"}
    wait_for(lambda: not processes_of(run_id))
    assert_nothing_is_left(store)


def end(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    worker.wait(timeout=WAIT_SECONDS)


@on_both
def test_a_run_whose_worker_and_process_are_killed_continues_by_itself(server, webhook, tmp_path, fault_log: FaultLog):
    webhook.posted.clear()
    worker, store = server.start_worker(), tmp_path / "store"
    fault = f"SIGKILL of a plain worker and its flow (noticed after {SILENT_SECONDS} s, continued after 10)"
    with fault_log.trying(fault) as recovery:
        with begun_run(server, store) as run_id:
            worker.kill()
            for process in processes_of(run_id):
                process.kill()
            worker.wait()
            recovery.begin()
            wait_for(lambda: "AwaitingRetry" in dict(states_of(server, run_id)), 2 * WAIT_SECONDS)
        worker = server.start_worker()
        assert_whole(server, run_id, store, 2)
    states = states_of(server, run_id)
    crashed = states.index(("Crashed", "No heartbeat for 150 s; its process is gone."))
    assert states[crashed + 1] == ("AwaitingRetry", "It crashed; the run continues.")
    assert {p["text"].splitlines()[0] for p in webhook.posted} == {
        "demo: pipeline until acquire, sample → tiny: Crashed"
    }
    end(worker)


@on_sqlite
def test_a_run_that_was_only_silent_ends_once(server, webhook, tmp_path, fault_log: FaultLog):
    worker, store = server.start_worker(), tmp_path / "store"
    with fault_log.trying("a flow that stood still until it was taken for dead") as recovery:
        with begun_run(server, store) as run_id:
            stopped = processes_of(run_id)
            for process in stopped:
                process.suspend()
            wait_for(lambda: server.get(f"/flow_runs/{run_id}")["run_count"] == 2, 2 * WAIT_SECONDS)
            for process in stopped:
                process.resume()
            recovery.begin()
        assert_whole(server, run_id, store, 2)
    end(worker)


@on_sqlite
def test_a_cancelled_run_stays_cancelled(server, webhook, tmp_path):
    worker = server.start_worker()
    with begun_run(server, tmp_path / "store") as run_id:
        server.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
        assert server.end_of(run_id) == "CANCELLED"
        with pytest.raises(AssertionError, match="in vain"):
            wait_for(lambda: states_of(server, run_id)[-1][0] != "Cancelled", SILENT_SECONDS + 20)
    end(worker)


@on_both
def test_a_corpus_that_is_not_read_anew_is_told_once(server, webhook, tmp_path):
    webhook.posted.clear()
    words = [sys.executable, "-m", "telling_stages", str(tmp_path), "goes-on"]
    for _ in range(2):  # the second run finds it cached, which is no news of the data
        subprocess.run(words, env=server.environment, cwd=ROOT, check=True, capture_output=True)
    wait_for(lambda: webhook.posted)
    time.sleep(3 * SHORTER["tsuzuki-corpus-is-old"] / 2)
    names = [e["resource"]["prefect.resource.name"] for e in server.events("prefect.automation.triggered")]
    assert names.count("tsuzuki-corpus-is-old") == 1
    (told,) = {post["text"] for post in webhook.posted}
    assert told.startswith("青空文庫: not read anew for 35 days\nLast read 20")
