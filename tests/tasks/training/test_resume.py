"""Killed and resumed equals never killed: real processes, real SIGKILL, equal bytes.

What is killed is always a real worker; most are then resumed in this process, which saves seconds and must not matter.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from data_contracts.errors import WorkerLost
from tasks.runtime import Runtime
from tasks.training.pretraining import pretrain
from tasks.training.tuning import tune
from tasks.workspace import Workspace

PRETRAIN = "tasks.training.pretraining:pretrain"
TUNE = "tasks.training.tuning:tune"


def logged_steps(folder: Path) -> list[int]:
    rows = [json.loads(line) for line in (folder / "logs/metrics.jsonl").read_text().splitlines()]
    return [row["step"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, base, tokens, pretrain_config, content_hashes):
    folder = tmp_path_factory.mktemp("undisturbed")
    pretrain(pretrain_config(max_steps=60), Workspace(folder, Runtime(store=folder)), base, tokens)
    return content_hashes(folder)


@pytest.mark.parametrize("step", [1, 58])
def test_pretraining_killed_at_a_step_ends_with_the_same_bytes(
    step, undisturbed, in_process, tmp_path, base, tokens, pretrain_config, start_body, content_hashes
):
    config, folder = pretrain_config(max_steps=60), tmp_path / "work"
    body = start_body(PRETRAIN, config, folder, base=base, tokens=tokens)
    body.wait_for_step(step)
    body.kill(worker=True)
    assert not (folder / "training.json").exists()
    pretrain(config, Workspace(folder, Runtime(store=tmp_path), resumed=True), base, tokens)
    assert content_hashes(folder) == undisturbed
    assert logged_steps(folder) == list(range(1, 61))


def test_pretraining_killed_again_and_again_ends_with_the_same_bytes(
    undisturbed, tmp_path, base, tokens, pretrain_config, start_body, content_hashes
):
    config, folder = pretrain_config(max_steps=60), tmp_path / "work"
    for step in (10, 40):
        body = start_body(PRETRAIN, config, folder, base=base, tokens=tokens)
        body.wait_for_step(step)
        body.kill(worker=True)
    pretrain(config, Workspace(folder, Runtime(store=tmp_path), resumed=True), base, tokens)
    assert content_hashes(folder) == undisturbed


def test_worker_checkpoints_and_ends_when_only_its_parent_is_killed(
    undisturbed, in_process, tmp_path, base, tokens, pretrain_config, start_body, content_hashes
):
    config, folder = pretrain_config(max_steps=60, checkpoint_every_steps=1000), tmp_path / "work"
    body = start_body(PRETRAIN, config, folder, base=base, tokens=tokens)
    body.wait_for_step(5)
    (worker,) = body.kill(worker=False)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the orphan is still running"
        time.sleep(0.05)
    assert list((folder / ".scratch/checkpoints").glob("step-*"))
    pretrain(config, Workspace(folder, Runtime(store=tmp_path), resumed=True), base, tokens)
    assert content_hashes(folder) == undisturbed


def test_a_worker_told_to_stop_leaves_a_checkpoint_and_a_retryable_error(
    undisturbed, tmp_path, base, tokens, pretrain_config, content_hashes, request
):
    config, folder = pretrain_config(max_steps=60, checkpoint_every_steps=1000), tmp_path / "work"
    told = []

    def stop_once(done, total=None, unit="", **figures):
        if done == 7 and not told:
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            told.append(
                next(int(pid) for pid in children if b"tasks.worker" in Path(f"/proc/{pid}/cmdline").read_bytes())
            )
            os.kill(told[0], signal.SIGTERM)

    with pytest.raises(WorkerLost, match="stopped by SIGTERM after a checkpoint") as caught:
        pretrain(config, Workspace(folder, Runtime(store=tmp_path), stop_once), base, tokens)
    assert caught.value.retryable
    request.getfixturevalue("in_process")
    pretrain(config, Workspace(folder, Runtime(store=tmp_path), resumed=True), base, tokens)
    assert content_hashes(folder) == undisturbed


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(
    in_process, undisturbed, tmp_path, base, tokens, pretrain_config, content_hashes, caplog
):
    config, folder = pretrain_config(max_steps=60), tmp_path / "work"

    def fail_at_20(done, total=None, unit="", **figures):
        if done == 20:
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        pretrain(config, Workspace(folder, Runtime(store=tmp_path), fail_at_20), base, tokens)
    newest = max((folder / ".scratch/checkpoints").glob("step-*")) / "optimizer.pt"
    assert newest.parent.name == "step-00000018"
    newest.write_bytes(newest.read_bytes()[:-100])
    pretrain(config, Workspace(folder, Runtime(store=tmp_path), resumed=True), base, tokens)
    assert "step-00000018" in caplog.text and "falling back" in caplog.text
    assert content_hashes(folder) == undisturbed
    assert logged_steps(folder) == list(range(1, 61))


def test_lora_killed_with_dropout_ends_with_the_same_bytes(
    in_process, tmp_path, base, instructions, lora_config, start_body, content_hashes
):
    config = lora_config(max_steps=60, dropout=0.2)
    tune(config, Workspace(tmp_path / "whole", Runtime(store=tmp_path)), base, instructions)
    body = start_body(TUNE, config, tmp_path / "killed", model=base, instructions=instructions)
    body.wait_for_step(20)
    body.kill(worker=True)
    tune(config, Workspace(tmp_path / "killed", Runtime(store=tmp_path), resumed=True), base, instructions)
    assert content_hashes(tmp_path / "killed") == content_hashes(tmp_path / "whole")
