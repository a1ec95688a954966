"""Flow runs whose process is gone: found by the process table, scheduled again over the server's API."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import httpx
import psutil

RUN_ID = "PREFECT__FLOW_RUN_ID"
"""Prefect names a process's flow run in that variable of its environment."""
API_SECONDS = 30.0
BUSY = 503
"""What the server answers while SQLite is locked: soon it is not."""


def flow_run_of(process: psutil.Process) -> str | None:
    """Id of the flow run that a process works for; none where it works for none, is gone or is another user's."""
    try:
        found = process.environ().get(RUN_ID)
    except (psutil.Error, OSError):
        return None
    return str(UUID(found)) if found else None


def reschedule_lost_runs(api_url: str, auth: str | None, pool: str) -> list[str]:
    """Schedules again what the server takes for running in a pool of this machine, and no process here works for.

    Returns their ids.
    """
    alive = {flow_run_of(process) for process in psutil.process_iter()}
    wanted = {
        "flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}},
        "work_pools": {"name": {"any_": [pool]}},
    }
    with _client(api_url, auth) as client:
        found = _ask(client, "POST", "/flow_runs/filter", wanted)
    lost = [run["id"] for run in found if run["id"] not in alive]
    return [run_id for run_id in lost if reschedule(api_url, auth, run_id, "Its process was gone")]


def reschedule(api_url: str, auth: str | None, run_id: str, why: str) -> bool:
    """Has an unfinished flow run start again: its sealed stages are cached, a training resumes. False if it is done."""
    state: dict[str, Any] = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": f"{why}; the run continues."}
    with _client(api_url, auth) as client:
        found = _ask(client, "GET", f"/flow_runs/{run_id}")
        if found["state_type"] in ("COMPLETED", "CANCELLED", "CANCELLING"):
            return False
        told = _ask(client, "POST", f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})
    return told["status"] == "ACCEPT"


def _ask(client: httpx.Client, method: str, path: str, values: dict[str, Any] | None = None) -> Any:
    deadline = time.monotonic() + API_SECONDS
    while (answer := client.request(method, path, json=values)).status_code == BUSY and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer.raise_for_status().json()


def _client(api_url: str, auth: str | None) -> httpx.Client:
    user, _, password = (auth or "").partition(":")
    return httpx.Client(base_url=api_url, auth=(user, password) if auth else None, timeout=API_SECONDS)
