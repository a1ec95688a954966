"""What a real server and a real browser show of a run: names, tables, pictures, bars, failures; hostile text in it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from screenshots import CHROMIUM, browser
from served import free_port, wait_for

from command_line import MICRO, ROOT
from flows.ui.progress import ProgressBar
from tasks.stages import ACQUIRE

HOSTILE = "<script>document.title='ran'</script> ![見る](http://127.0.0.1:9/x.png) | `棒`"
"""Short enough for the filter of lengths to remove it."""
RUNS = f"""
import os
from infra.settings import prepare_prefect
prepare_prefect()
from flows.configuration import load_config
from flows.pipeline_flow import pipeline
from pathlib import Path
for share in ("0.01", "0.01", "0"):
    words = ("source={{kind: local}}", "source.path=" + os.environ["SOURCE"], "source.max_quarantined_share=" + share)
    pipeline(load_config("demo", Path({str(MICRO)!r}), words), until="filter", return_state=True)
"""


@dataclass(frozen=True)
class Shown:
    """A server with what three runs told it, in order: one that ended, the same again, one that failed."""

    url: str

    def ask(self, what: str, **filters: Any) -> list[dict[str, Any]]:
        answer = httpx.post(f"{self.url}/api/{what}/filter", json=filters, timeout=60)
        return answer.raise_for_status().json()

    @property
    def runs(self) -> list[dict[str, Any]]:
        return self.ask("flow_runs", sort="START_TIME_ASC")[:3]

    def of_run(self, what: str, number: int) -> list[dict[str, Any]]:
        name = {"logs": "logs", "artifacts": "artifacts", "task_runs": "task_runs"}[what]
        if what == "task_runs":
            return self.ask(what, flow_runs={"id": {"any_": [self.runs[number]["id"]]}})
        return self.ask(what, **{name: {"flow_run_id": {"any_": [self.runs[number]["id"]]}}})


def corpus(folder: Path) -> Path:
    """Documents that are kept, hostile ones that are too short for that, and one hostile line that is unreadable."""
    path = folder / "青空.jsonl"
    plain = [
        f"第{n}章では、山と川のある静かな町の暮らしについて述べる。" + "人々は朝早くから畑に出て働いた。" * 8
        for n in range(110)
    ]
    lines = [json.dumps({"id": f"{n}", "text": text}) for n, text in enumerate([*plain, *[HOSTILE] * 10])]
    path.write_text("\n".join([*lines, f"{HOSTILE} " + "長" * 5000]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("shown")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "PREFECT_HOME": str(folder / "home"), "TSUZUKI_STORE": str(folder / "store")}
    environment["PREFECT_UI_API_URL"] = f"{url}/api"
    words = ("uvicorn", "--factory", "flows.service.app:create_app", "--port", str(port), "--log-level", "error")
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(lambda: is_up(url))
        told = {"PREFECT_API_URL": f"{url}/api", "SOURCE": str(corpus(folder))}
        subprocess.run([sys.executable, "-c", RUNS], cwd=ROOT, env={**environment, **told}, timeout=500, check=True)
        wait_for(lambda: [log for log in Shown(url).of_run("logs", 2) if log["level"] >= logging.ERROR])
        yield Shown(url)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_runs_and_tasks_say_recipe_step_corpus_and_model(shown):
    assert {run["name"] for run in shown.runs} == {"demo: pipeline until filter, 青空.jsonl → tiny"}
    assert {task["name"] for task in shown.of_run("task_runs", 0)} == {
        "acquire: 青空.jsonl x tiny", "filter: 青空.jsonl x tiny"
    }  # fmt: skip


def test_each_stage_leaves_a_table_and_a_view_and_a_cached_one_nothing(shown):
    told = {
        artifact["key"]: artifact["type"]
        for artifact in shown.of_run("artifacts", 0)
        if "progress" not in artifact["key"]
    }
    assert told == {
        "tsuzuki-acquire": "table", "tsuzuki-acquire-view": "markdown",
        "tsuzuki-filter": "table", "tsuzuki-filter-view": "markdown",
    }  # fmt: skip
    assert shown.of_run("artifacts", 1) == []
    assert {task["state_name"] for task in shown.of_run("task_runs", 1)} == {"Cached"}


def test_the_log_says_what_came_out_of_each_stage_that_was_built(shown):
    said = [record["message"] for record in shown.of_run("logs", 0)]
    [acquired] = [line for line in said if "/acquire/" in line]
    assert acquired.startswith("built in ") and "documents kept 120" in acquired
    assert not [record for record in shown.of_run("logs", 1) if "built in" in record["message"]]


def test_a_failure_is_told_once_with_its_hint_and_no_traceback(shown):
    said = [record["message"] for record in shown.of_run("logs", 2) if record["level"] >= logging.WARNING]
    assert len(said) == 1, said
    assert said[0].startswith("QuarantineLimitError: ") and "\nhint: repair the source" in said[0]
    assert "Traceback" not in said[0]
    [task] = shown.of_run("task_runs", 2)
    for state in (shown.runs[2]["state"], task["state"]):
        assert state["name"] == "Failed"
        assert "1 of 121 lines are unreadable" in state["message"] and "\nhint: " in state["message"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_hostile_text_of_documents_is_text_in_the_browser_and_pictures_are_drawn(shown):
    pages = {artifact["key"]: artifact["id"] for artifact in shown.of_run("artifacts", 0)}
    with browser() as window:
        for stage, num_pictures in (("filter", 1), ("acquire", 0)):
            window.open(f"{shown.url}/artifacts/artifact/{pages[f'tsuzuki-{stage}-view']}")
            wait_for(lambda: "<script>" in str(window.run("document.body.innerText")), 60)
            assert "![見る](http://127.0.0.1:9/x.png)" in window.run("document.body.innerText")
            assert window.run("document.title") != "ran"
            images = "[...document.querySelectorAll('main img, .artifact-data-view img')]"
            assert window.run(f"{images}.every(i => i.src.startsWith('data:image/svg') && i.naturalWidth > 100)")
            assert window.run(f"new Set({images}).size") == num_pictures


def test_a_bar_moves_for_each_kind_of_work_and_ends_at_100(shown, tmp_path, monkeypatch):
    from prefect import flow
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    from flows.ui import progress as ui_progress

    monkeypatch.setattr(ui_progress, "PROGRESS_SECONDS", 0.0)
    seen = []

    @flow(name="bars")
    def bars() -> None:
        bar = ProgressBar(ACQUIRE, tmp_path)
        for done, unit in ((10, "bytes"), (20, "bytes"), (1, "parts of files"), (3, "parts of files")):
            bar.move(done, 40, unit, {"loss": 2.5})
            found = shown.ask("artifacts", artifacts={"key": {"like_": "acquire-progress"}}, sort="CREATED_DESC")
            seen.append([round(artifact["data"]) for artifact in reversed(found)])
        bar.end(tmp_path)

    with temporary_settings({PREFECT_API_URL: f"{shown.url}/api", PREFECT_LOGGING_TO_API_ENABLED: False}):
        bars()
    found = shown.ask("artifacts", artifacts={"key": {"like_": "acquire-progress"}}, sort="CREATED_DESC")
    first = len(seen[0]) - 1  # the runs before may have left one
    assert [told[first:] for told in seen] == [[25], [50], [100, 2], [100, 8]]
    assert [artifact["data"] for artifact in found[:2]] == [100, 100]
    assert found[0]["description"] == "acquire: 3 of 40 parts of files, loss 2.5"
