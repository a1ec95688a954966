"""Models from the hub, tried on a real HTTP server on loopback that answers as the hub does."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from data_contracts.errors import SourceError, TransientSourceError
from tasks.models.config import ModelConfig
from tasks.models.folders import copy_model
from tasks.models.hub import check_hashes, fetch_snapshot
from tasks.models.importing import import_base

COMMIT = "a" * 40
NAME = "org/micro"


class FakeHub(BaseHTTPRequestHandler):
    """Serves one model: its revision, its tree, and its files, each with the headers the client asks for."""

    files: dict[str, bytes]
    status: int | None
    asked: list[str]

    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)

    def answer(self, with_body):
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if self.status:
            self.send(self.status, b"{}", with_body)
        elif path in (f"/api/models/{NAME}", f"/api/models/{NAME}/revision/main"):
            self.send(200, json.dumps({"id": NAME, "sha": COMMIT, "siblings": []}).encode(), with_body)
        elif path == f"/api/models/{NAME}/tree/{COMMIT}":
            self.send(200, json.dumps([self.entry(name) for name in sorted(self.files)]).encode(), with_body)
        elif path.startswith(f"/{NAME}/resolve/{COMMIT}/"):
            name = path.rpartition("/")[2]
            self.send(200, self.files[name], with_body, {"ETag": f'"{self.oid(name)}"', "X-Repo-Commit": COMMIT})
        elif path.startswith(f"/api/models/{NAME}/revision/"):
            self.send(404, b"{}", with_body, {"X-Error-Code": "RevisionNotFound"})
        else:
            self.send(404, b"{}", with_body, {"X-Error-Code": "RepoNotFound"})

    def oid(self, name):
        kind = hashlib.sha256 if name.endswith(".safetensors") else hashlib.sha1
        return kind(self.files[name]).hexdigest()

    def entry(self, name):
        size = len(self.files[name])
        lfs = {"oid": self.oid(name), "size": size, "pointerSize": 130} if name.endswith(".safetensors") else None
        return {"type": "file", "path": name, "size": size, "oid": "0" * 40, **({"lfs": lfs} if lfs else {})}

    def send(self, status, body, with_body, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(micro_model, tmp_path, monkeypatch):
    """A class whose attributes steer the server; `.url` is its address. The client's cache is a fresh folder."""
    files = {path.name: path.read_bytes() for path in micro_model.iterdir()}
    files |= {"pytorch_model.bin": b"pickle", "README.md": b"# card"}
    handler = type("Hub", (FakeHub,), {"files": files, "status": None, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_hub_model_is_imported_with_its_commit_and_without_pickles(hub, micro_model, workspace):
    config = ModelConfig(source=f"hf://{NAME}", endpoint=hub.url, expect_pretrained=False, licence="MIT", cpu_threads=1)
    summary = import_base(config, workspace)
    assert summary.proofs["commit"] == COMMIT
    assert summary.sources[0].revision == COMMIT and summary.sources[0].url == f"https://huggingface.co/{NAME}"
    assert [entry.name for entry in workspace.files()] == sorted(path.name for path in micro_model.iterdir())
    assert not any(path.endswith((".bin", ".md")) for path in hub.asked)


def test_second_fetch_asks_for_no_file_again(hub):
    first, _ = fetch_snapshot(f"hf://{NAME}@main", hub.url)
    hub.asked.clear()
    assert fetch_snapshot(f"hf://{NAME}@main", hub.url) == (first, COMMIT)
    assert not any("/resolve/" in path for path in hub.asked)
    hub.asked.clear()
    fetch_snapshot(f"hf://{NAME}@{COMMIT}", hub.url)
    assert hub.asked == []


def test_unknown_model_and_revision_are_told_apart(hub):
    with pytest.raises(SourceError, match="no revision `v9`"):
        fetch_snapshot(f"hf://{NAME}@v9", hub.url)
    with pytest.raises(SourceError, match="not found, or closed without a token"):
        fetch_snapshot("hf://org/absent", hub.url)


def test_forbidden_model_is_not_tried_again_and_a_hub_that_is_down_is(hub):
    hub.status = 403
    with pytest.raises(SourceError, match="answered with status 403") as caught:
        fetch_snapshot(f"hf://{NAME}", hub.url)
    assert not caught.value.retryable and "HF_TOKEN" in caught.value.hint
    hub.status = 500
    with pytest.raises(TransientSourceError, match="500"):
        fetch_snapshot(f"hf://{NAME}", hub.url)


def test_unreachable_hub_is_transient_and_serves_what_the_cache_holds(hub):
    folder, _ = fetch_snapshot(f"hf://{NAME}", hub.url)
    nowhere = "http://127.0.0.1:9"
    assert fetch_snapshot(f"hf://{NAME}", nowhere) == (folder, COMMIT)
    with pytest.raises(TransientSourceError, match="could not be reached"):
        fetch_snapshot("hf://org/other", nowhere)


def test_offline_mode_without_a_cached_model_is_final(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE forbids the network") as caught:
        fetch_snapshot(f"hf://{NAME}", hub.url)
    assert not caught.value.retryable


def test_flipped_byte_in_a_cached_file_is_found(hub, tmp_path):
    folder, _ = fetch_snapshot(f"hf://{NAME}", hub.url)
    check_hashes(folder, copy_model(folder, tmp_path / "good", ["config.json", "model.safetensors"]))
    blob: Path = (folder / "model.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(SourceError, match="the hub promised"):
        check_hashes(folder, copy_model(folder, tmp_path / "bad", ["model.safetensors"]))
