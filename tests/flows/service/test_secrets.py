"""No token stands in anything that a run leaves or shows, and what may hold private text is its owner's alone."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from command_line import MICRO, Tsuzuki
from data_contracts.artifacts import Corpus
from gitlab_server import WIKI, GitLabServer, status, times
from stage_bodies import BodyConfig
from tasks.acquire import sample
from tasks.runtime import Runtime
from tasks.stage import Request, Stage
from tasks.store import Store

TOKENS = {
    "HF_TOKEN": "hf_Zq7leakedXhub",
    "WANDB_API_KEY": "7e5f00d7e5f00d7e5f00d7e5f00d7e5f00d7e5f0",
    "GITLAB_TOKEN": "glpat-Zq7leakedXlab",
    "TSUZUKI_GITLAB_TOKEN": "Zq7leakedXother",
    "TSUZUKI_PASSWORD": "Zq7leakedXpassword",
}
NEEDLES = [needle for value in TOKENS.values() for needle in (value.encode(), base64.b64encode(value.encode()))]
NO_SECRET = [b"http://127.0.0.1:"]
"""The source's address, which does stand in manifests and database: what is looked for is found where it is."""


def corpus() -> dict[str, bytes]:
    documents = [{"id": d.id, "text": d.text} for d in sample.generate(240, seed=7).documents()]
    halves = (documents[::2], documents[1::2])
    lines = ["\n".join(json.dumps(row, ensure_ascii=False) for row in half) for half in halves]
    return {f"{WIKI}/train_{n}.jsonl": text.encode() for n, text in enumerate(lines)}


def files_with(needles: list[bytes], *folders: Path) -> list[Path]:
    """Files with one of them in their name or content."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(n in path.read_bytes() + str(path).encode() for n in needles)]


def command_lines(run: subprocess.Popen[str]) -> bytes:
    processes = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
    return b"\n".join(word.encode() for process in processes for word in process.cmdline())


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """What a run left that was killed while it trained, with the tokens in its environment; its home is there too."""
    folder = tmp_path_factory.mktemp("secrets")
    home = folder / "home"
    home.mkdir()
    with GitLabServer(corpus()) as gitlab:
        gitlab.faults["batch"] = times(1, status(503))  # something to be told of
        source = f"source={{kind: llm_jp, base_url: '{gitlab.url}'}}"
        words = ("--set", source, "--set", "wandb.mode=offline", "--store", folder / "store", "--until", "pretrain")
        surroundings = {**TOKENS, "HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home / "cache")}
        run = Tsuzuki().start("run", "demo", "--config", MICRO, *words, **surroundings)
        shown = wait_for_checkpoint(run, folder / "store")
        assert any(TOKENS["GITLAB_TOKEN"] in seen.headers.get("PRIVATE-TOKEN", "") for seen in gitlab.requests)
    children = psutil.Process(run.pid).children(recursive=True)
    os.kill(run.pid, signal.SIGKILL)
    (folder / "shown.txt").write_bytes(shown + run.communicate()[1].encode())
    psutil.wait_procs(children, timeout=60)
    return folder


def wait_for_checkpoint(run: subprocess.Popen[str], store: Path) -> bytes:
    """The command lines of the run and its processes at that moment, as others on the machine see them."""
    deadline = time.monotonic() + 120
    while not any(store.glob(".partial/pretrain-*/.scratch/checkpoints/step-*")):
        assert run.poll() is None, run.stderr.read() if run.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return command_lines(run)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_no_token_is_in_the_store_the_job_files_the_logs_the_home_or_prefects_database(killed):
    prefect = Path(os.environ["PREFECT_HOME"])
    assert files_with(NEEDLES, killed, prefect) == []
    assert list(killed.glob("store/.partial/pretrain-*/.scratch/job.json"))
    assert list(killed.glob("store/.partial/pretrain-*/logs/wandb/**/*.wandb"))
    found = {path.name.removesuffix("-wal") for path in files_with(NO_SECRET, killed, prefect)}
    assert {"manifest.json", "prefect.db"} <= found


def test_store_scratch_and_job_files_are_the_owners_alone(killed):
    assert mode(killed / "store") == 0o700
    (scratch,) = killed.glob("store/.partial/pretrain-*/.scratch")
    assert mode(scratch) == 0o700
    assert mode(scratch / "job.json") == 0o600


def test_a_store_that_is_shared_keeps_its_mode(tmp_path):
    store = tmp_path / "共有"
    store.mkdir()
    store.chmod(0o2775)
    request = Request.of(
        Stage("filter", Corpus, 1, "stage_bodies:write_text", "a test"), BodyConfig(witness=tmp_path / "calls"), {}
    )
    path = Store(store).build(request, Runtime(store=store)).path
    assert mode(store) == 0o2775
    assert mode(path) & 0o055 == 0o055 & ~current_umask()


def current_umask() -> int:
    os.umask(mask := os.umask(0o077))
    return mask


def test_a_run_takes_the_token_and_the_store_from_blocks_and_they_stand_nowhere_else(
    killed, tsuzuki, tmp_path, monkeypatch
):
    shutil.copytree(os.environ["PREFECT_HOME"], tmp_path / "home")  # with its tables made
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    with monkeypatch.context() as once:
        once.setenv("GITLAB_TOKEN", TOKENS["GITLAB_TOKEN"])
        once.setenv("TSUZUKI_STORE", str(tmp_path / "店"))
        saved = tsuzuki("save-blocks")
    assert json.loads(saved.stdout) == {"saved": ["gitlab-token", "tsuzuki_store"]}
    with GitLabServer(corpus()) as gitlab:
        source = f"source={{kind: llm_jp, base_url: '{gitlab.url}'}}"
        run = tsuzuki("run", "demo", "--config", MICRO, "--set", source, "--until", "acquire")
        asked = {seen.headers.get("PRIVATE-TOKEN") for seen in gitlab.requests if "/api/" in seen.path}
    assert asked == {TOKENS["GITLAB_TOKEN"]}
    assert Path(json.loads(run.stdout)["path"]).is_relative_to(tmp_path / "店")
    assert not any(needle in told.encode() for needle in NEEDLES for told in (saved.stderr, run.stdout, run.stderr))
    assert files_with(NEEDLES, tmp_path) == []
