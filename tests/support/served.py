"""A running `tsuzuki serve`, and PostgreSQL for it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from command_line import MICRO, ROOT, Tsuzuki

WAIT_SECONDS = 180
"""Long, for a machine that has much else to do."""
END_SECONDS = 300
"""A whole micro pipeline, with the minute that Prefect's clients may wait for a database."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(found: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return result


class Served:
    """A running `tsuzuki serve` with a Prefect home, store and port of its own."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.port = free_port()
        self.home, self.store, self.log = folder / "home", folder / "store", folder / "serve.log"
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(self.home),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "1",
            "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
            **variables,
        }
        self.start()

    def start(self) -> None:
        """Starts it, or the next one after it was killed."""
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*Tsuzuki.command, "serve", "--port", str(self.port), "--store", str(self.store)],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(self._is_ready)
        except AssertionError:
            self.stop()
            raise

    def _is_ready(self) -> bool:
        told = self.log.read_text(encoding="utf-8")
        assert self.process.poll() is None, told
        return "worker ready" in told

    def get(self, path: str) -> Any:
        return self.ask("GET", path, None)

    def post(self, path: str, values: Any) -> Any:
        return self.ask("POST", path, values)

    def ask(self, method: str, path: str, values: Any) -> Any:
        """Asks again while the database is busy or away, or the server itself, as Prefect's own clients do."""
        answer = wait_for(lambda: self._answer(method, path, values))
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def _answer(self, method: str, path: str, values: Any) -> httpx.Response | None:
        try:
            answer = httpx.request(method, f"{self.url}{path}", json=values, timeout=30)
        except httpx.TransportError:
            return None
        return None if answer.status_code in (500, 503) else answer

    def trigger(self, deployment: str, parameters: dict[str, Any]) -> str:
        """Id of a new flow run, as the UI's button Run makes one."""
        found = self.get(f"/deployments/name/{deployment}")
        assert found["status"] in ("READY", "NOT_READY")
        return self.post(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})["id"]

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end_of(self, run_id: str) -> str:
        """Type of the state that a flow run ends in."""
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        return wait_for(lambda: (s := self.get(f"/flow_runs/{run_id}")["state_type"]) in final and s, END_SECONDS)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=WAIT_SECONDS)


def micro_config() -> dict[str, Any]:
    return {"recipe": "demo", **yaml.safe_load(MICRO.read_text(encoding="utf-8"))}


class Postgres:
    """PostgreSQL of this machine on a free port of the loopback; as the user postgres where root runs the tests."""

    def __init__(self) -> None:
        # Not tmp_path, which only the user who runs the tests may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="tsuzuki-postgres-"))
        self.as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if not os.getuid() else []
        if self.as_user:
            shutil.chown(self.folder, "postgres", "postgres")
        self.port = free_port()
        self._run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder}"
        self._run("pg_ctl", "start", "--wait", "-o", options, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def kill(self) -> None:
        """SIGKILL to its first process; the others notice and end."""
        postmaster = psutil.Process(int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0]))
        processes = [postmaster, *postmaster.children(recursive=True)]
        postmaster.kill()
        _, left = psutil.wait_procs(processes, timeout=60)
        assert not left

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [*self.as_user, program, f"--pgdata={self.folder / 'data'}", *words],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
