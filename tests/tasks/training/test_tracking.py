"""WandB: a real offline run, and failures that stop nothing."""

from __future__ import annotations

import pytest

from tasks.runtime import Runtime, WandbConfig
from tasks.training.pretraining import pretrain
from tasks.training.tracking import tracking
from tasks.workspace import Workspace


@pytest.mark.usefixtures("in_process")
def test_offline_run_lies_in_the_logs_without_dangling_links(tmp_path, pretrain_config, base, tokens):
    wandb = WandbConfig(mode="offline", project="tsuzuki-test", tags=("japanese",))
    workspace = Workspace(tmp_path / "work", Runtime(store=tmp_path, wandb=wandb))
    pretrain(pretrain_config(max_steps=3), workspace, base, tokens)
    runs = list((workspace.path / "logs/wandb").glob("offline-run-*/run-*.wandb"))
    assert len(runs) == 1 and runs[0].stat().st_size > 0
    assert b"validation_loss" in runs[0].read_bytes() and b"tsuzuki-test" in runs[0].read_bytes()
    assert not [p for p in (workspace.path / "logs").rglob("*") if p.is_symlink()]


def test_attempts_of_one_training_share_a_run(tmp_path):
    workspace = Workspace(tmp_path / "work", Runtime(store=tmp_path))
    settings = WandbConfig(mode="offline")
    for step in (1, 2):
        with tracking(settings, "tsuzuki-test", {}, workspace) as track:
            track(step, {"loss": 1.0})
    names = {path.name for path in (workspace.path / "logs/wandb").glob("offline-run-*/run-*.wandb")}
    assert len(names) == 1


def test_a_wandb_that_cannot_start_is_one_warning(tmp_path, caplog, monkeypatch):
    workspace = Workspace(tmp_path / "work", Runtime(store=tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "")
    # A file where WandB wants its folder: it can write nothing.
    (workspace.path / "logs").write_text("in the way")
    with tracking(WandbConfig(mode="offline"), "tsuzuki-test", {}, workspace) as track:
        track(1, {"loss": 1.0})
        track(2, {"loss": 0.5})
    assert len(caplog.records) == 1 and "goes on without it" in caplog.text


def test_disabled_tracking_imports_no_wandb(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from tasks.runtime import *; from tasks.workspace import Workspace\n"
        f"workspace = Workspace(Path({str(tmp_path / 'w')!r}), Runtime(store=Path('.')))\n"
        "from tasks.training.tracking import tracking\n"
        "with tracking(WandbConfig(), 'p', {}, workspace) as track: track(1, {'loss': 1.0})\n"
        "sys.exit('wandb' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_training_package_imports_neither_torch_nor_prefect():
    import subprocess
    import sys

    modules = "pretraining, tuning, instructions, config, packing, backends, running, tracking, schedule, targets"
    code = (
        f"import sys; from tasks.training import {modules}\nsys.exit(bool({{'torch', 'prefect'}} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
