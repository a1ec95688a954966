"""A GitLab project with Git LFS on loopback, which misbehaves in the ways that a test asks for."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlparse

COMMIT = "e928f19330f5271b29f382fe5a01245dec7d57c2"
WIKI = "ja/ja_wiki"
LOGIN = b"<html><title>Sign in</title>"

Fault = Callable[["GitLabServer", "Handler"], bool]
"""Answers a request in place of the server, or returns False to let it answer."""


def shard(*numbers: int) -> bytes:
    lines = [json.dumps({"text": f"本文{n} が\U0001f363", "meta": {"id": str(n)}}, ensure_ascii=False) for n in numbers]
    return gzip.compress("\n".join(lines).encode(), mtime=0)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Seen(NamedTuple):
    """One request. kind: commits, tree, files, batch or object."""

    kind: str
    path: str
    headers: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    gitlab: GitLabServer

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.gitlab.answer(self)

    do_POST = do_GET

    def send(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def begin(self, code: int, **headers: str) -> None:
        """Status and headers alone; the body ends with the connection."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def reset(self) -> None:
        """Ends the connection with a TCP reset."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()


class GitLabServer:
    """`faults[kind]` is asked before a request of that kind is answered; `requests` is what came."""

    def __init__(self, files: dict[str, bytes], tls: tuple[str, str] | None = None) -> None:
        self.files = files
        self.faults: dict[str, Fault] = {}
        self.requests: list[Seen] = []
        self.sent_bytes = 0
        self.piece_seconds = 0.0
        self.object_url = ""
        handler = type("Bound", (Handler,), {"gitlab": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.handle_error = lambda *unused: None  # type: ignore[method-assign] - clients may leave
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=lambda: self.server.serve_forever(0.02))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def kinds(self) -> list[str]:
        return [seen.kind for seen in self.requests]

    def answer(self, http: Handler) -> None:
        url = urlparse(http.path)
        path, query = unquote(url.path), parse_qs(url.query)
        kind = next((k for k in ("commits", "tree", "files", "batch") if f"/{k}" in path), "object")
        self.requests.append(Seen(kind, http.path, dict(http.headers)))
        if kind in self.faults and self.faults[kind](self, http):
            return
        getattr(self, f"answer_{kind}")(http, path, query)

    def answer_commits(self, http: Handler, path: str, query: dict[str, list[str]]) -> None:
        http.send(200, json.dumps({"id": COMMIT}).encode())

    def answer_tree(self, http: Handler, path: str, query: dict[str, list[str]]) -> None:
        names = sorted(name for name in self.files if name.startswith(query["path"][0] + "/"))
        if not names:
            return http.send(404, b'{"message": "404 Tree Not Found"}')
        page = int(query["page"][0])  # pages of one name each
        following = str(page + 1) if page < len(names) else ""
        entries = [{"type": "tree", "path": "ja"}, {"type": "blob", "path": names[page - 1]}]
        return http.send(200, json.dumps(entries).encode(), x_next_page=following)

    def pointer(self, name: str) -> bytes:
        content = self.files[name]
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256_of(content)}\nsize {len(content)}\n"
        ).encode()

    def answer_files(self, http: Handler, path: str, query: dict[str, list[str]]) -> None:
        http.send(200, self.pointer(path.split("/repository/files/")[1].removesuffix("/raw")))

    def answer_batch(self, http: Handler, path: str, query: dict[str, list[str]]) -> None:
        oid = json.loads(http.rfile.read(int(http.headers["Content-Length"])))["objects"][0]["oid"]
        # `localhost` is another host than 127.0.0.1 to whoever compares names.
        href = f"{self.object_url or self.url.replace('127.0.0.1', 'localhost')}/o/{oid}"
        action = {"href": href, "header": {"X-Signature": "of this host alone"}}
        http.send(200, json.dumps({"objects": [{"oid": oid, "actions": {"download": action}}]}).encode())

    def content_of(self, http: Handler) -> bytes:
        oid = urlparse(http.path).path.rsplit("/", 1)[1]
        return next(content for content in self.files.values() if sha256_of(content) == oid)

    def answer_object(self, http: Handler, path: str, query: dict[str, list[str]]) -> None:
        content = self.content_of(http)
        start = int(http.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        http.send_response(206 if start else 200)
        http.send_header("Content-Length", str(len(content) - start))
        if start:
            http.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        http.end_headers()
        step = 64 << 10 if self.piece_seconds else max(1, len(content))
        for begin in range(start, len(content), step):
            piece = content[begin : begin + step]
            http.wfile.write(piece)
            self.sent_bytes += len(piece)
            time.sleep(self.piece_seconds)


def times(number: int, fault: Fault) -> Fault:
    """That fault for the first requests alone."""
    left = [number]

    def first(gitlab: GitLabServer, http: Handler) -> bool:
        left[0] -= 1
        return left[0] >= 0 and fault(gitlab, http)

    return first


def status(code: int, **headers: str) -> Fault:
    return lambda gitlab, http: http.send(code, b"{}", **headers) is None


def page(content: bytes, code: int = 200, **headers: str) -> Fault:
    """That body with a proper length."""
    return lambda gitlab, http: http.send(code, content, **headers) is None


def redirect(to: str | Callable[[Handler], str], code: int = 302) -> Fault:
    return lambda gitlab, http: http.send(code, Location=to if isinstance(to, str) else to(http)) is None


def half_then_close(gitlab: GitLabServer, http: Handler) -> bool:
    """Half of what was asked for, then a clean end."""
    return _half(gitlab, http)


def half_then_reset(gitlab: GitLabServer, http: Handler) -> bool:
    _half(gitlab, http)
    time.sleep(0.05)  # a reset overtakes bytes that were not read yet
    http.reset()
    return True


def _half(gitlab: GitLabServer, http: Handler) -> bool:
    content = gitlab.content_of(http)
    start = int(http.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    rest = content[start:]
    span = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
    http.begin(206 if start else 200, Content_Length=str(len(rest)), **span)
    http.wfile.write(rest[: len(rest) // 2])
    http.close_connection = True
    return True


def flipped_byte(gitlab: GitLabServer, http: Handler) -> bool:
    content = gitlab.content_of(http)
    http.send(200, content[:-1] + bytes([content[-1] ^ 1]))
    return True


def ignores_range(gitlab: GitLabServer, http: Handler) -> bool:
    http.send(200, gitlab.content_of(http))
    return True


def another_range(gitlab: GitLabServer, http: Handler) -> bool:
    """A ranged request is answered with the beginning, and says so."""
    content = gitlab.content_of(http)
    if "Range" not in http.headers:
        return False
    http.send(206, content[:-1], Content_Range=f"bytes 0-{len(content) - 2}/{len(content)}")
    return True


def endless(gitlab: GitLabServer, http: Handler) -> bool:
    """A body without an announced length that goes on until the client leaves."""
    http.begin(200)
    while True:
        http.wfile.write(b"[" * (1 << 16))
        gitlab.sent_bytes += 1 << 16


def endless_pages(gitlab: GitLabServer, http: Handler) -> bool:
    number = int(parse_qs(urlparse(http.path).query)["page"][0])
    entry = {"type": "blob", "path": f"{WIKI}/train_{number}.jsonl.gz"}
    http.send(200, json.dumps([entry]).encode(), x_next_page=str(number + 1))
    return True


def drip(gitlab: GitLabServer, http: Handler) -> bool:
    """The right object, a byte at a time, each before a read would time out."""
    content = gitlab.content_of(http)
    http.begin(200, Content_Length=str(len(content)))
    for byte in content:
        http.wfile.write(bytes([byte]))
        time.sleep(0.05)
    return True


def silent(gitlab: GitLabServer, http: Handler) -> bool:
    """Headers, and then nothing."""
    http.begin(200, Content_Length=str(len(gitlab.content_of(http))))
    time.sleep(1.0)
    http.close_connection = True
    return True
