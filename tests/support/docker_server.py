"""As much of Docker's API, on loopback, as starting one container and asking after it takes; nothing is run."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class DockerServer(ThreadingHTTPServer):
    """`created` holds the body of each container asked for; a container ends well once it was asked after."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.created: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.server_port}"

    def end_container(self) -> None:
        """Leaves what the command of NeMo-Run's container writes at its end."""
        [folder] = [
            bind.split(":")[0] for bind in self.created[-1]["HostConfig"]["Binds"] if bind.endswith("/nemo_run")
        ]
        name = self.created[-1]["Labels"]["nemo-run/name"]
        (Path(folder) / f"status_{name}.out").write_text(json.dumps({"exit_code": "0"}), encoding="utf-8")


class _Handler(BaseHTTPRequestHandler):
    server: DockerServer

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.endswith("/version"):
            self._answer({"ApiVersion": "1.44", "Version": "26.0"})
        elif path.endswith("/containers/json"):
            self.server.end_container()
            self._answer([])
        elif "/containers/" in path:
            self._answer({"Id": "c0", "State": {"Status": "running"}, "Config": {}})
        else:
            self._answer({"Id": "i0", "RepoTags": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if urlsplit(self.path).path.endswith("/containers/create"):
            self.server.created.append(json.loads(body))
        self._answer({"Id": "c0", "Warnings": []}, 201)

    def _answer(self, value: Any, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return None


@contextmanager
def docker_server() -> Iterator[DockerServer]:
    server = DockerServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
