"""Checkpoints and metrics on disk: whole or passed over, never half believed."""

from __future__ import annotations

import json

import pytest
import torch

from tasks.training.checkpoints import Checkpoint, CheckpointFolder
from tasks.training.metrics import MetricsLog


@pytest.fixture
def folder(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints", keep=2)
    for step in (3, 6, 9):
        weights = {"w": torch.full((4, 4), float(step))}
        optimizer = {"state": {0: {"exp_avg": torch.ones(2) * step}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
        folder.save(step, Checkpoint(weights, optimizer, {"cpu": torch.get_rng_state()}, {"step": step, "x": 0.1}))
    return folder


def test_the_newest_is_loaded_as_it_was_saved_and_old_ones_go(folder):
    found = folder.load_latest(pytest.fail)
    assert found.state == {"step": 9, "x": 0.1}
    assert torch.equal(found.parameters["w"], torch.full((4, 4), 9.0))
    assert torch.equal(found.optimizer["state"][0]["exp_avg"], torch.ones(2) * 9)
    assert [path.name for path in folder.steps()] == ["step-00000006", "step-00000009"]


@pytest.mark.parametrize("name", ["parameters.safetensors", "optimizer.pt", "state.json", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_any_damage_leads_to_the_one_before(folder, name, damage):
    path = folder.steps()[-1] / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    if damage == "changed":
        path.write_bytes(content[:-8] + bytes(byte ^ 1 for byte in content[-8:]))
    told = []
    assert folder.load_latest(told.append).state["step"] == 6
    assert len(told) == 1 and "step-00000009" in told[0]


def test_with_every_checkpoint_damaged_there_is_none(folder):
    for path in folder.steps():
        (path / "state.json").unlink()
    told = []
    assert folder.load_latest(told.append) is None and len(told) == 2


def test_a_checkpoint_still_being_written_is_not_seen(folder, tmp_path):
    (tmp_path / "checkpoints/.writing-00000012").mkdir()
    assert folder.load_latest(pytest.fail).state["step"] == 9
    assert not list(folder.folder.glob(".writing-*"))


def test_metrics_after_the_checkpoint_and_torn_rows_are_dropped(tmp_path):
    path = tmp_path / "logs/metrics.jsonl"
    log = MetricsLog(path, None)
    for step in range(1, 6):
        log.write({"step": step, "loss": 1.0})
    log.close()
    with open(path, "ab") as file:
        file.write(b'{"step": 6, "lo')
    MetricsLog(path, 5).close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4, 5]
    MetricsLog(path, 3).close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
    MetricsLog(path, None).close()
    assert path.read_text() == ""
