"""Flow runs whose process is gone: found by the process table, scheduled again over the server's API."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import psutil

RUN_ID = "PREFECT__FLOW_RUN_ID"
"""Prefect names a process's flow run in that variable of its environment."""
API_SECONDS = 30.0
BUSY = 503
"""What the server answers while SQLite is locked: soon it is not."""
SETTLING_SECONDS = {"RUNNING": 5.0, "PENDING": 60.0, "CRASHED": 3.0, "CANCELLING": 10.0}
"""So long is a run without a process left to whoever else may be about to tell of it: a worker, an automation."""
KILL_SECONDS = 30.0
"""So long has a cancelled run to save a checkpoint and leave, as Prefect's own workers give it."""
MAX_CRASH_AGE = timedelta(days=1)
"""Older crashes are history."""
MAX_CRASHES = 5
"""A run that crashes as often under one service, whatever kills it, is left crashed."""


def flow_run_of(process: psutil.Process) -> str | None:
    """Id of the flow run that a process works for; none where it works for none, is gone or is another user's."""
    try:
        found = process.environ().get(RUN_ID)
    except (psutil.Error, OSError):
        return None
    return str(UUID(found)) if found else None


@dataclass
class LostRuns:
    """The runs of one worker of a pool on this machine, and what becomes of them when a process of theirs is killed.

    worker: its name, which Prefect writes on every run that it takes; runs of other workers are left alone.
    """

    api_url: str
    auth: str | None
    pool: str
    worker: str
    missing: dict[str, float] = field(default_factory=dict)
    crashes: Counter[str] = field(default_factory=Counter)
    cancelled: dict[str, float] = field(default_factory=dict)

    def look(self, no_worker: bool) -> list[str]:
        """Sets right what no process of this machine works for any more. Returns a line for each run.

        no_worker: no worker is running, which might yet tell of a run itself. Raises httpx.HTTPError where the server
        does not answer.
        """
        told = []
        with _client(self.api_url, self.auth) as client:
            found = self._unfinished(client)
            # After the question: what the server called running then, and no process works for now, is lost.
            alive = {flow_run_of(process) for process in psutil.process_iter()} if found else set()
            now = time.monotonic()
            lost = [run for run in found if run["id"] not in alive]
            # By state: one that was set anew begins to wait anew.
            self.missing = {run["state_id"]: self.missing.get(run["state_id"], now) for run in lost}
            for run in lost:
                settled = now - self.missing[run["state_id"]] >= SETTLING_SECONDS[run["state_type"]]
                if (no_worker or settled) and (line := self._set_right(client, run)):
                    told.append(line)
        for run in found:
            if run["state_type"] == "CANCELLING" and run["id"] in alive:
                self._end_orphan(run["id"])
        return told

    def _unfinished(self, client: httpx.Client) -> list[dict[str, Any]]:
        recently = {"after_": (datetime.now(UTC) - MAX_CRASH_AGE).isoformat()}
        found = []
        for wanted in (
            {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}},
            {"state": {"type": {"any_": ["CRASHED"]}}, "end_time": recently},
        ):
            pool = {"work_pools": {"name": {"any_": [self.pool]}}}
            found += _ask(client, "POST", "/flow_runs/filter", {"flow_runs": wanted, **pool})
        return [run for run in found if run.get("labels", {}).get("prefect.worker.name", self.worker) == self.worker]

    def _end_orphan(self, run_id: str) -> None:
        """Ends a cancelled run whose worker is gone: its process is now a child of this one."""
        orphans = [process for process in psutil.Process().children() if flow_run_of(process) == run_id]
        if not orphans:
            return
        first = run_id not in self.cancelled
        killed_at = self.cancelled.setdefault(run_id, time.monotonic() + KILL_SECONDS)
        for process in orphans:
            if first:
                process.terminate()
            elif time.monotonic() > killed_at:
                process.kill()

    def _set_right(self, client: httpx.Client, run: dict[str, Any]) -> str | None:
        run_id, state = run["id"], run["state_type"]
        if state == "CANCELLING" or run_id in self.cancelled:
            self.cancelled.pop(run_id, None)
            message = {"type": "CANCELLED", "message": "Its process is gone."}
            return f"flow run {run_id}: cancelled" if _set(client, run, message) else None
        if state == "CRASHED":
            if self.crashes[run_id] >= MAX_CRASHES:
                return None
            self.crashes[run_id] += 1
        if not _set(client, run, _again("Its process was gone")):
            return None
        _end_tasks(client, run_id)
        return f"flow run {run_id}: its process is gone; scheduled again, it continues"


def reschedule(api_url: str, auth: str | None, run_id: str, why: str) -> bool:
    """Has an unfinished flow run start again: its sealed stages are cached, a training resumes. False if it is done."""
    with _client(api_url, auth) as client:
        found = _ask(client, "GET", f"/flow_runs/{run_id}")
        if found["state_type"] in ("COMPLETED", "CANCELLED", "CANCELLING"):
            return False
        return _set(client, found, _again(why))


def _again(why: str) -> dict[str, Any]:
    return {"type": "SCHEDULED", "name": "AwaitingRetry", "message": f"{why}; the run continues."}


def _end_tasks(client: httpx.Client, run_id: str) -> None:
    """Has the UI show that what the killed process was at is over; the next attempt has task runs of its own."""
    wanted = {
        "flow_runs": {"id": {"any_": [run_id]}},
        "task_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}},
    }
    crashed = {"state": {"type": "CRASHED", "name": "Crashed", "message": "Its process was gone."}, "force": True}
    for task_run in _ask(client, "POST", "/task_runs/filter", wanted):
        _ask(client, "POST", f"/task_runs/{task_run['id']}/set_state", crashed)


def _set(client: httpx.Client, run: dict[str, Any], state: dict[str, Any]) -> bool:
    """Whether the state was set; not where another has been set since the run was read."""
    now = _ask(client, "GET", f"/flow_runs/{run['id']}")
    if now["state_id"] != run["state_id"]:
        return False
    told = _ask(client, "POST", f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
    return told["status"] == "ACCEPT"


def _ask(client: httpx.Client, method: str, path: str, values: dict[str, Any] | None = None) -> Any:
    deadline = time.monotonic() + API_SECONDS
    while (answer := client.request(method, path, json=values)).status_code == BUSY and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer.raise_for_status().json()


def _client(api_url: str, auth: str | None) -> httpx.Client:
    user, _, password = (auth or "").partition(":")
    return httpx.Client(base_url=api_url, auth=(user, password) if auth else None, timeout=API_SECONDS)
