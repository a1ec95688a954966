"""Prefect's server as `tsuzuki serve` starts it, without the worker, and what its access log says it was asked."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx

from flows.service.ephemeral_server import SERVED_FACTORY

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180.0
REQUEST = re.compile(r'"(?:GET|POST|PATCH|PUT|DELETE) /api/(?!health)')


class StandingServer:
    """A server on a free port with a home below `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{port}/api", folder / "log"
        words = ("--host", "127.0.0.1", "--port", str(port), "--log-level", "info")
        environment = os.environ | {
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_LOGGING_LEVEL": "INFO",
            "TSUZUKI_STORE": str(folder / "store"),
            "DO_NOT_TRACK": "1",
        }
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", "--factory", SERVED_FACTORY, *words],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(f"{self.url}/health", timeout=5).raise_for_status()
                return self
            except httpx.HTTPError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    sys.exit(f"the server did not start\n{self.log.read_text()[-3000:]}")
                time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def num_requests(self) -> int:
        """HTTP requests that were answered since the start; events and logs of a run come in by websocket besides."""
        return len(REQUEST.findall(self.log.read_text(encoding="utf-8", errors="replace")))

    def last_flow_run(self) -> str:
        asked = {"sort": "EXPECTED_START_TIME_DESC", "limit": 1}
        return httpx.post(f"{self.url}/flow_runs/filter", json=asked, timeout=30).raise_for_status().json()[0]["id"]

    def num_task_runs(self, flow_run_id: str) -> int:
        """Task runs of a flow run, as soon as the server has recorded all that it was told: the number stays."""
        asked = {"flow_runs": {"id": {"any_": [flow_run_id]}}}
        found, told = -1, 0
        while found != told:
            found, told = told, httpx.post(f"{self.url}/task_runs/count", json=asked, timeout=30).json()
            time.sleep(3)
        return told
