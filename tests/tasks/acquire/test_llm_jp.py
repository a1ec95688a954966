"""LLM-JP download against a GitLab of our own on loopback: LFS pointers, resume, and a server that lies."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse

import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from data_contracts.artifacts import RawCorpus
from data_contracts.errors import SourceError, TransientSourceError
from tasks.acquire.config import LlmJpSource
from tasks.runtime import Runtime
from tasks.stage import Request
from tasks.stages import ACQUIRE
from tasks.store import Store

COMMIT = "e928f19330f5271b29f382fe5a01245dec7d57c2"


def shard(*numbers: int) -> bytes:
    lines = [json.dumps({"text": f"本文{n}", "meta": {"id": str(n), "title": "", "url": ""}}) for n in numbers]
    return gzip.compress("\n".join(lines).encode(), mtime=0)


@dataclass
class GitLab:
    """A GitLab project with LFS files; `fault` says how it misbehaves."""

    files: dict[str, bytes]
    fault: str = ""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def start(self) -> ThreadingHTTPServer:
        gitlab = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments) -> None:
                pass

            def do_GET(self) -> None:
                gitlab.answer(self)

            def do_POST(self) -> None:
                gitlab.batch(self)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        return server

    def answer(self, http: BaseHTTPRequestHandler) -> None:
        url = urlparse(http.path)
        path, query = unquote(url.path), parse_qs(url.query)
        self.requests.append(("GET", http.path, dict(http.headers)))
        if self.fault.isdigit():
            return self.send(http, int(self.fault), b"{}")
        if "/repository/commits/" in path:
            return self.send(http, 200, json.dumps({"id": COMMIT}).encode())
        if path.endswith("/repository/tree"):
            return self.tree(http, int(query["page"][0]))
        if "/repository/files/" in path:
            content = self.files[path.split("/repository/files/")[1].removesuffix("/raw")]
            oid = hashlib.sha256(content).hexdigest()
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
            return self.send(http, 200, b"<html>sign in" if self.fault == "login page" else pointer.encode())
        return self.object(http, path.rsplit("/", 1)[1])

    def tree(self, http: BaseHTTPRequestHandler, page: int) -> None:
        names = sorted(self.files)
        if self.fault == "path traversal":
            names = ["ja/ja_wiki/../../../etc/train_0.jsonl.gz"]
        entry = {"type": "blob", "path": names[page - 1]}
        headers = {"x-next-page": str(page + 1) if page < len(names) else ""}
        self.send(http, 200, json.dumps([entry]).encode(), headers)

    def batch(self, http: BaseHTTPRequestHandler) -> None:
        body = json.loads(http.rfile.read(int(http.headers["Content-Length"])))
        self.requests.append(("POST", http.path, dict(http.headers)))
        oid = body["objects"][0]["oid"]
        answer = {
            "oid": oid,
            "actions": {"download": {"href": f"{self.url.replace('127.0.0.1', 'localhost')}/o/{oid}"}},
        }
        self.send(http, 200, json.dumps({"objects": [answer]}).encode())

    def object(self, http: BaseHTTPRequestHandler, oid: str) -> None:
        content = next(c for c in self.files.values() if hashlib.sha256(c).hexdigest() == oid)
        start = int(http.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if self.fault == "ignores range":
            start = 0
        if self.fault == "flipped byte":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if self.fault == "endless":
            content += b"x" * 10_000_000
        body = content[start:]
        http.send_response(206 if start else 200)
        http.send_header("Content-Length", str(len(body)))
        http.end_headers()
        http.wfile.write(body[: len(body) // 2] if self.fault == "half" else body)
        http.close_connection = True

    def send(self, http: BaseHTTPRequestHandler, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        http.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            http.send_header(name, value)
        http.end_headers()
        http.wfile.write(body)


@pytest.fixture
def gitlab():
    project = GitLab({"ja/ja_wiki/train_0.jsonl.gz": shard(0, 1), "ja/ja_wiki/validation_0.jsonl.gz": shard(2)})
    server = project.start()
    yield project
    server.shutdown()
    server.server_close()


def acquire(gitlab: GitLab, store, token: str | None = None) -> RawCorpus:
    runtime = Runtime(store=store, gitlab_token=SecretStr(token) if token else None)
    request = Request.of(ACQUIRE, LlmJpSource(base_url=gitlab.url), {})
    return RawCorpus.open(Store(store).build(request, runtime).path)


def test_every_file_is_proved_by_its_pointer_and_read(gitlab, tmp_path):
    corpus = acquire(gitlab, tmp_path)
    assert [row["id"] for s in corpus.shards() for row in pq.read_table(s).to_pylist()] == ["0", "1", "2"]
    assert len(corpus.shards("validation")) == 1
    source = corpus.manifest.sources[0]
    assert (source.revision, source.licence) == (COMMIT, "CC-BY-SA-4.0")
    assert [f["sha256"] for f in corpus.manifest.summary.proofs["files"]] == [
        hashlib.sha256(content).hexdigest() for _, content in sorted(gitlab.files.items())
    ]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("404", "HTTP 404"),
        ("403", "HTTP 403(.|\n)*GITLAB_TOKEN"),
        ("503", "HTTP 503"),
        ("half", "ended after|RemoteProtocolError"),
        ("flipped byte", "sha256"),
        ("endless", "expected .* bytes"),
        ("login page", "expected a Git LFS pointer"),
        ("path traversal", "outside of"),
    ],
)
def test_a_failing_or_lying_server_gets_a_clear_error_and_leaves_no_file(gitlab, tmp_path, fault, message):
    gitlab.fault = fault
    with pytest.raises(SourceError, match=message):
        acquire(gitlab, tmp_path)
    assert not [p for p in (tmp_path / ".downloads").glob("*") if p.suffix != ".part"]
    assert not list(tmp_path.glob("acquire/*"))
    gitlab.fault = ""
    assert len(acquire(gitlab, tmp_path).shards()) == 2


def test_only_faults_that_may_pass_are_retryable(gitlab, tmp_path):
    for fault, kind in (("503", True), ("429", True), ("404", False), ("403", False)):
        gitlab.fault = fault
        with pytest.raises(SourceError) as error:
            acquire(gitlab, tmp_path)
        assert isinstance(error.value, TransientSourceError) is kind


@pytest.mark.parametrize("fault", ["", "ignores range"])
def test_a_half_fetched_file_is_continued(gitlab, tmp_path, fault):
    gitlab.fault = "half"
    with pytest.raises(TransientSourceError):
        acquire(gitlab, tmp_path)
    assert list((tmp_path / ".downloads").glob("*.part"))
    gitlab.fault = fault
    gitlab.requests.clear()
    acquire(gitlab, tmp_path)
    assert any("Range" in headers for _, _, headers in gitlab.requests)


def test_a_finished_file_is_not_fetched_again(gitlab, tmp_path):
    corpus = acquire(gitlab, tmp_path)
    Store(tmp_path).discard(corpus.path)
    gitlab.requests.clear()
    acquire(gitlab, tmp_path)
    assert not [path for _, path, _ in gitlab.requests if path.startswith("/o/")]


def test_the_token_is_sent_to_the_project_and_to_no_other_host(gitlab, tmp_path):
    acquire(gitlab, tmp_path, token="secret")
    for _, path, headers in gitlab.requests:
        assert ("PRIVATE-TOKEN" in headers) == (not path.startswith("/o/")), path
