"""Starting the processes of a training through NeMo-Run: events, errors, the end, and that nothing stays behind."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import emulated_slurm
from data_contracts.errors import DataError, WorkerError
from docker_server import docker_server
from stand_in_process import launch_it
from tasks.job import run_worker
from tasks.runtime import Runtime
from tasks.training.launching import Follower
from tasks.training.rank_process import leave_seconds
from tasks.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]
SUPPORT = ROOT / "tests" / "support"
NEMO_PYTHON = ROOT / ".venv-nemo" / "bin" / "python"
TOKEN = "hf_geheim-0123456789"
SLURM = {"kind": "slurm", "account": "a", "gpus_per_node": 2, "poll_seconds": 0.3, "exclusive": False}
INLINE = {"kind": "inline"}
TWO = {"kind": "torchrun", "num_gpus": 2}
needs_nemo = pytest.mark.skipif(not NEMO_PYTHON.is_file(), reason="no environment with NeMo-Run: `make nemo-env`")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return Workspace(tmp_path / "store" / ".partial" / "pretrain-0", Runtime(store=tmp_path / "store"))


def job_in(workspace: Workspace, mode: str) -> Path:
    folder = workspace.scratch / mode
    folder.mkdir()
    values = {"mode": mode, "folder": str(folder), "events": str(folder / "events.jsonl")}
    (folder / "job.json").write_text(json.dumps(values), encoding="utf-8")
    return folder / "job.json"


@pytest.fixture
def worker(workspace: Workspace) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the worker that launches a job, to be killed."""
    started: list[subprocess.Popen[str]] = []

    def start(job_path: Path, executor: dict, **more: object) -> subprocess.Popen[str]:
        arguments = {"jobs": [(str(job_path), executor)], **more}
        path = workspace.scratch / f"worker-{len(started)}.json"
        path.write_text(json.dumps({"function": "stand_in_process:launch_it", "arguments": arguments}))
        with open(workspace.scratch / "worker.log", "ab") as log:
            process = subprocess.Popen(
                [NEMO_PYTHON, "-m", "tasks.worker", path],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def change(path: Path, mode: str) -> None:
    """From now on the job does something else."""
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, "mode": mode}), encoding="utf-8")


def run(workspace: Workspace, jobs: list[tuple[Path, dict]], on_event=lambda event: None) -> list[str]:
    arguments = {"jobs": [(str(job), executor) for job, executor in jobs]}
    return run_worker("stand_in_process:launch_it", arguments, workspace, on_event, python=NEMO_PYTHON)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every live process that names the folder on its command line: workers, torchrun, ranks, jobs."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def wait_until(holds: Callable[[], object], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.1)


def secrets_on_disk(folder: Path) -> list[Path]:
    """Files with the token in them, as text or in NeMo-Run's packed form."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        texts = [content]
        for packed in content.replace(b'"', b" ").replace(b",", b" ").split():
            try:
                texts.append(zlib.decompress(base64.urlsafe_b64decode(packed)))
            except (ValueError, zlib.error):
                continue
        if any(TOKEN.encode() in text for text in texts):
            found.append(path)
    return found


@needs_nemo
def test_one_worker_launches_five_jobs_and_tells_how_each_ended(workspace, tmp_path, monkeypatch):
    """One worker, since each has to import NeMo-Run."""
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'sbatch: error: invalid account' >&2\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    seen, command_lines = [], []

    def on_event(event: dict) -> None:
        seen.append(event)
        command_lines.extend(" ".join(process.cmdline()) for process in processes_of(workspace.path))

    first = job_in(workspace, "reduce_over_gloo")
    (first.parent / "events.jsonl").write_text('{"event": "of an earlier launch"}\n', encoding="utf-8")
    refuse, crash, end_well = (job_in(workspace, mode) for mode in ("refuse", "crash", "end_well"))
    docker = {"kind": "docker", "num_gpus": 4, "user": "1000:1000"}
    with docker_server() as server:
        monkeypatch.setenv("DOCKER_HOST", server.address)
        jobs = [(first, TWO), (refuse, TWO), (crash, TWO), (end_well, docker), (end_well, {**SLURM, "account": "b"})]
        reduced, refused, crashed, contained, unsubmitted = run(workspace, jobs, on_event)

    # Two processes reduced over gloo, and got the token from the environment.
    assert reduced == "ended well"
    assert seen == [{"event": "step", "loss": 3.0, "token_ends": TOKEN[-4:], "名前": "続き"}]
    # An error of one process is raised as it was; a crash is a lost worker.
    assert refused == "DataError: `3 行目`: found nothing, expected text\nhint: fill it in"
    assert crashed.startswith("WorkerLost: `executor torchrun`: process 1 failed")
    assert "ZeroDivisionError: by zero" in crashed
    assert unsubmitted.startswith("WorkerError: `executor slurm`: the job could not be submitted")
    assert "invalid account" in unsubmitted
    # Tokens stand nowhere but in the environment and in Docker's API.
    assert contained == "ended well"
    check_container(server.created, tmp_path / "store")
    assert any("torchrun" in line for line in command_lines)
    assert not any(TOKEN in line for line in command_lines)
    assert secrets_on_disk(tmp_path) == []
    assert processes_of(workspace.path) == []


def check_container(created: list[dict], store: Path) -> None:
    [body] = created
    assert f"HF_TOKEN={TOKEN}" in body["Env"]
    assert body["Image"] == "nvcr.io/nvidia/nemo:25.04"
    assert body["User"] == "1000:1000"
    assert body["HostConfig"]["ShmSize"] == 16 << 30
    assert body["HostConfig"]["DeviceRequests"][0]["Count"] == 4
    assert f"{store}:{store}" in body["HostConfig"]["Binds"]
    assert TOKEN not in " ".join(body["Cmd"])
    assert "--nproc-per-node 4" in " ".join(body["Cmd"])


@needs_nemo
def test_sigterm_lets_every_process_checkpoint_and_leaves_none(workspace, worker):
    path = job_in(workspace, "wait")
    process = worker(path, TWO)
    wait_until(lambda: (path.parent / "pid-0").exists() and (path.parent / "pid-1").exists(), 30)
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert json.loads(output.splitlines()[-1])["type"] == "WorkerLost"
    assert "stopped by SIGTERM" in output
    assert sorted(p.name for p in path.parent.glob("checkpoint-*")) == ["checkpoint-0", "checkpoint-1"]
    assert processes_of(workspace.path) == []


@needs_nemo
def test_a_checkpoint_that_takes_longer_than_the_grace_is_cut_off_and_the_error_names_the_setting(workspace, worker):
    path = job_in(workspace, "wait")
    process = worker(path, TWO, grace_seconds=0.5)
    wait_until(lambda: (path.parent / "pid-0").exists() and (path.parent / "pid-1").exists(), 30)
    process.terminate()
    output, _ = process.communicate(timeout=30)
    error = json.loads(output.splitlines()[-1])
    assert "stopped by SIGTERM" in error["message"]
    assert "had 0.375 s to write one" in error["hint"] and "TSUZUKI_CANCEL_GRACE_SECONDS from 0.5" in error["hint"]
    assert list(path.parent.glob("checkpoint-*")) == []
    wait_until(lambda: not processes_of(workspace.path), 15)


def test_processes_may_write_for_most_of_the_grace_and_leave_before_it_ends():
    assert [leave_seconds(grace) for grace in (0, 4, 20, 600)] == [0, 3, 15, 595]


@needs_nemo
def test_a_killed_worker_leaves_no_process_and_the_next_launch_waits_for_the_last(workspace, worker):
    path = job_in(workspace, "wait")
    process = worker(path, TWO)
    wait_until(lambda: (path.parent / "pid-0").exists() and (path.parent / "pid-1").exists(), 30)
    ranks = [psutil.Process(int((path.parent / f"pid-{rank}").read_text().split()[0])) for rank in (0, 1)]
    process.kill()
    process.wait()
    change(path, "end_well")
    alive_at_events = []
    outcome = run(workspace, [(path, TWO)], lambda event: alive_at_events.append([p.is_running() for p in ranks]))
    assert outcome == ["ended well"]
    assert alive_at_events == [[False, False]]
    assert (path.parent / "checkpoint-1").exists()
    wait_until(lambda: not processes_of(workspace.path), 15)


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(tmp_path):
    """rank_process alone, under a parent that dies as torchrun would."""
    watch = tmp_path / "launches" / "1"
    watch.mkdir(parents=True)
    (watch / "leave_seconds").write_text("0.5", encoding="utf-8")
    job_path = tmp_path / "job.json"
    job_path.write_text(
        json.dumps({"mode": "ignore_everything", "folder": str(tmp_path), "events": str(tmp_path / "e")})
    )
    rank = (
        "import subprocess; from tasks.training import rank_process;"
        f"subprocess.Popen(['sleep', '61.{os.getpid()}']);"
        f"rank_process.main('stand_in_process', {str(job_path)!r}, {str(watch)!r})"
    )
    parent = f"import subprocess; subprocess.Popen([{sys.executable!r}, '-c', {rank!r}], start_new_session=True).wait()"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{SUPPORT}"}
    process = subprocess.Popen([sys.executable, "-c", parent], env=environment)
    wait_until(lambda: (tmp_path / "pid-0").exists(), 15)
    child = psutil.Process(int((tmp_path / "pid-0").read_text().split()[0]))
    assert len(child.children()) == 1
    process.kill()
    process.wait()
    wait_until(lambda: not child.is_running() and not processes_of(Path(f"61.{os.getpid()}")), 10)


@needs_nemo
def test_a_slurm_job_runs_the_code_it_was_submitted_with_and_a_lost_one_is_cancelled_first(
    workspace, worker, tmp_path, monkeypatch
):
    state = tmp_path / "slurm"
    for name, value in emulated_slurm.install(tmp_path / "bin", state).items():
        monkeypatch.setenv(name, value)
    path = job_in(workspace, "wait")
    process = worker(path, SLURM)
    wait_until(lambda: (path.parent / "pid-1").exists(), 30)
    process.kill()
    process.wait()
    change(path, "end_well")
    seen = []
    assert run(workspace, [(path, SLURM)], seen.append) == ["ended well"]
    assert [event["loss"] for event in seen] == [1.0]
    assert (path.parent / "checkpoint-1").exists()
    assert [(state / f"{number}.state").read_text() for number in (1, 2)] == ["FAILED", "COMPLETED"]
    assert secrets_on_disk(tmp_path) == []
    wait_until(lambda: not processes_of(workspace.path), 15)


def test_inline_runs_here_and_its_events_arrive_while_it_trains(workspace, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    seen: list[dict] = []

    def emit(event: str, **fields: object) -> None:
        seen.append({"event": event, **fields})

    assert launch_it([(str(job_in(workspace, "end_well")), INLINE)], emit) == ["ended well"]
    assert seen == [{"event": "step", "loss": 1.0}]
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(DataError, match="3 行目"):
        launch_it([(str(job_in(workspace, "refuse")), INLINE)], emit)


def test_half_a_line_waits_for_its_other_half_and_a_file_begun_anew_is_read_anew(tmp_path):
    path, seen = tmp_path / "events.jsonl", []
    follower = Follower(path, lambda event, **fields: seen.append((event, fields)))
    follower.forward()
    path.write_text('{"event": "a"}\n{"event": "b", "t": "半', encoding="utf-8")
    follower.forward()
    assert seen == [("a", {})]
    with open(path, "a", encoding="utf-8") as file:
        file.write('分"}\n')
    follower.forward()
    assert seen == [("a", {}), ("b", {"t": "半分"})]
    path.write_text('{"event": "c"}\n', encoding="utf-8")
    follower.forward()
    assert seen[2:] == [("c", {})]
    path.write_text("Killed\n", encoding="utf-8")
    with pytest.raises(WorkerError, match="Killed"):
        follower.forward()


def test_sigterm_handler_of_the_caller_is_put_back(workspace):
    before = signal.getsignal(signal.SIGTERM)
    launch_it([(str(job_in(workspace, "end_well")), INLINE)], lambda event, **fields: None)
    assert signal.getsignal(signal.SIGTERM) is before
