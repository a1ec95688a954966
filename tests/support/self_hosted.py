"""Prefect's server as a user hosts it: what `tsuzuki serve` would watch over starts and ends by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
from served import WAIT_SECONDS, Served, free_port, wait_for

from command_line import ROOT, Tsuzuki


class SelfHosted(Served):
    """A server with a Prefect home, store and port of its own; set-up and workers only where a test asks for them."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.port = free_port()
        self.home, self.store, self.log = folder / "home", folder / "store", folder / "server.log"
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P7D",
            "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
            "TSUZUKI_STORE": str(self.store),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]),
            **variables,
        }
        self.started: list[subprocess.Popen[bytes]] = []
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--log-level", "warning")
        self.process = self.run_module("uvicorn", "--factory", "prefect.server.api.server:create_app", *where)
        try:
            wait_for(self._is_ready, 2 * WAIT_SECONDS)
        except AssertionError:
            self.stop()
            raise

    def run_module(self, *words: str) -> subprocess.Popen[bytes]:
        """A Python module with this server's environment; what it says goes to the log."""
        with open(self.log, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        self.started.append(process)
        return process

    def start_worker(self) -> subprocess.Popen[bytes]:
        """A plain `prefect worker`, which knows nothing of `tsuzuki serve`."""
        return self.run_module("prefect", "worker", "start", "--pool", "tsuzuki", "--type", "process")

    def set_up(self, automations: Path) -> dict[str, Any]:
        """What `tsuzuki setup` says that it did."""
        words = [*Tsuzuki.command, "setup", "--automations", str(automations)]
        done = subprocess.run(words, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of that name that the server holds, oldest first."""
        wanted = {"filter": {"event": {"name": [name]}, "order": "ASC"}, "limit": 50}
        return self.post("/events/filter", wanted)["events"]

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        for process in reversed(self.started):
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=WAIT_SECONDS)


class Webhook:
    """A server on the loopback that keeps what is posted to it."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        posted = self.posted

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the name that http.server wants
                posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # the name that http.server wants
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/himitsu-token"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
