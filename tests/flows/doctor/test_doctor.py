"""`tsuzuki doctor`: what a run lacks is named with what to do about it, before the run; and no token is shown."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import pytest

from flows.configuration import load_config
from flows.doctor.checks import Finding, examine
from flows.doctor.disk_estimate import disk_estimate
from infra.credentials import Credentials
from infra.settings import Settings

TOKENS = {"HF_TOKEN": "hf_続き-秘密", "WANDB_API_KEY": "wandb-秘密", "GITLAB_TOKEN": "glpat-秘密"}
H200 = "NVIDIA H200, 143771 MiB"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path) -> None:
    for name in list(os.environ):
        if name.startswith("TSUZUKI_") or name in {*TOKENS, "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # no netrc of the developer's
    monkeypatch.setenv("TSUZUKI_STORE", str(tmp_path / "store"))


def findings(recipe: str | None, *assignments: str, gpus: list[str] | None = None) -> dict[str, Finding]:
    config = load_config(recipe, None, assignments) if recipe else None
    return {f.name: f for f in examine(Settings(), config, Credentials(), gpus or [])}


def missing(found: dict[str, Finding]) -> set[str]:
    assert all(f.hint for f in found.values() if f.state == "missing")
    return {name for name, f in found.items() if f.state == "missing"}


def test_the_demo_lacks_nothing_here_and_no_token_is_shown(tsuzuki, monkeypatch):
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    told = tsuzuki("doctor", "demo", "--json")
    rows = {row["name"]: row for row in map(json.loads, told.stdout.splitlines())}
    assert rows["disk"]["state"] == "ok"
    assert all(rows[name]["found"] == "set" for name in TOKENS)
    assert not [value for value in TOKENS.values() if value in told.stdout + told.stderr]


def test_a_recipe_that_cannot_run_here_exits_with_1_and_a_hint_for_each_lack(tsuzuki, monkeypatch):
    monkeypatch.setenv("TSUZUKI_ENGINE", "curator")
    told = tsuzuki("doctor", "workshop-qwen25-0.5b-nemo", "--set", "wandb.mode=online", code=1).stdout
    rows = [line.split("  ")[0] for line in told.splitlines() if " missing  " in line]
    assert {"NeMo interpreter", "engine curator", "WANDB_API_KEY"} <= set(rows)
    assert told.count("hint: ") >= len(rows)


def test_any_machine_can_be_looked_at_without_a_recipe_but_not_changed_values(tsuzuki):
    assert not missing(findings(None))
    assert "need a RECIPE" in tsuzuki("doctor", "--set", "split.seed=3", code=2).stderr


def test_gpus_are_counted_against_what_the_trainings_take():
    assert "GPU" in missing(findings("workshop-qwen25-0.5b"))
    assert "GPU" not in missing(findings("workshop-qwen25-0.5b", gpus=[H200]))
    two = ("pretrain.nemo.num_gpus=2", "pretrain.nemo.tensor_parallel=2")
    assert "GPU" in missing(findings("workshop-qwen25-0.5b-nemo", *two, gpus=[H200]))


def test_an_executor_of_another_layout_than_the_config_is_named(monkeypatch):
    two = ("pretrain.nemo.num_gpus=2", "lora.nemo.num_gpus=2")
    found = findings("workshop-qwen25-0.5b-nemo", *two, gpus=[H200] * 2)["executor"]
    assert found.state == "missing"
    assert "starts 1 x 1 processes" in found.found
    monkeypatch.setenv("TSUZUKI_EXECUTOR", '{"kind": "torchrun", "num_gpus": 2}')
    assert findings("workshop-qwen25-0.5b-nemo", *two, gpus=[H200] * 2)["executor"].state == "ok"
    monkeypatch.setenv("TSUZUKI_EXECUTOR", '{"kind": "torchrun", "num_gpu": 2}')
    assert "fields of torchrun" in findings(None)["executor"].hint


def test_an_interpreter_is_started_and_its_packages_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TSUZUKI_NEMO_PYTHON", sys.executable)
    found = findings("workshop-qwen25-0.5b-nemo")["NeMo interpreter"]
    assert found.state == "missing"
    assert "nemo_toolkit" in found.found
    assert "transformers" not in found.found.split(" has no ")[1]
    monkeypatch.setenv("TSUZUKI_NEMO_PYTHON", str(tmp_path / "nowhere"))
    assert "No such file" in findings("workshop-qwen25-0.5b-nemo")["NeMo interpreter"].found


def test_a_disk_too_small_for_the_recipe_is_named_with_the_figures():
    found = findings("ja-wiki-qwen25-0.5b", "pretrain.keep_checkpoints=100000")["disk"]
    assert found.state == "missing"
    assert "checkpoints 600," in found.found
    unknown = findings("demo", "model.source=hf://org/name")["disk"]
    assert (unknown.state, unknown.found.rsplit("; ", 1)[1]) == ("note", "not known: model")


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-0.5B", "llm-jp/llm-jp-3-500m@main", "org/model-0.5b-instruct"])
def test_the_size_of_a_model_is_read_from_its_name(name):
    estimate = disk_estimate(load_config("demo", None, (f"model.source=hf://{name}",)))
    assert estimate.parts["models"] == 5 * 10**9
    assert estimate.parts["checkpoints"] == 3 * 12 * 5 * 10**8


def test_files_that_the_config_names_and_that_are_not_there_are_named(tmp_path):
    (tmp_path / "文書.jsonl").write_text('{"text": "続き"}\n' * 1000, encoding="utf-8")
    there = f"source={{kind: local, path: '{tmp_path / '文書.jsonl'}'}}"
    assert not missing(findings("demo", there))
    gone = f"source={{kind: local, path: '{tmp_path / '別'}'}}"
    assert missing(findings("demo", gone)) == {"source.path"}


def test_a_store_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TSUZUKI_STORE", str(tmp_path / "file" / "store"))
    assert missing(findings(None)) == {"store"}


class Server(BaseHTTPRequestHandler):
    """Answers as a Prefect server with basic auth does."""

    answers: ClassVar = {
        "/api/admin/version": metadata.version("prefect"),
        "/api/block_documents/filter": [{"name": "hf-token"}],
    }

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        wanted = base64.b64encode("管理:秘密".encode()).decode()
        allowed = self.headers["Authorization"] == f"Basic {wanted}" and self.path in self.answers
        body = json.dumps(self.answers.get(self.path)).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_prefect_server_is_asked_for_its_version_with_the_password_and_without_showing_it(monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}/api"
        monkeypatch.setenv("PREFECT_API_URL", f"http://{address}")
        found = findings(None)["Prefect server"]
        assert (found.state, found.hint) == ("missing", "set PREFECT_API_AUTH_STRING or PREFECT_API_KEY")
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "管理:秘密")
        everything = findings(None)
        found = everything["Prefect server"]
        assert (found.state, found.found) == ("ok", f"http://{address}, {metadata.version('prefect')}")
        assert (everything["HF_TOKEN"].found, everything["GITLAB_TOKEN"].found) == ("a block on the server", "not set")
        server.shutdown()
    monkeypatch.setenv("PREFECT_API_URL", f"http://管理:秘密@{address}")
    gone = findings(None)["Prefect server"]
    assert gone.state == "missing"
    assert "秘密" not in gone.found
    assert "unset PREFECT_API_URL" in gone.hint


def test_wandb_login_counts_as_a_key():
    (Path.home() / ".netrc").write_text("machine api.wandb.ai login user password 秘密\n", encoding="utf-8")
    (Path.home() / ".netrc").chmod(0o600)
    found = findings("demo", "wandb.mode=online")["WANDB_API_KEY"]
    assert (found.state, found.found) == ("ok", "in netrc")
