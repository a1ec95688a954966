"""`tsuzuki checkpoints`: everything is found, nothing needed is deleted, and a copy is whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nemo_folders
import pytest
import torch
from model_artifacts import sealed, write_adapter, write_model

from command_line import ROOT
from data_contracts.artifacts import Adapter, HfModel
from data_contracts.errors import DamagedArtifact, MissingArtifact, StorageError, TsuzukiError, UsageError
from flows.checkpoints.backing_up import back_up
from flows.checkpoints.finding import delete, find, latest, prunable
from tasks.training.checkpoints import Checkpoint, CheckpointFolder

KEY = "ab" * 32


def save_steps(folder: Path, *steps: int) -> Path:
    """Checkpoints of our own training loop."""
    kept = CheckpointFolder(folder, keep=100)
    for step in steps:
        kept.save(step, Checkpoint({"w": torch.full((64,), float(step))}, {"state": {}}, {}, {"step": step}))
    return folder


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with artifacts and half-done trainings of both backends, and folders of others beside."""
    root = tmp_path_factory.mktemp("everything")
    plain, adapter = write_model(root / "others" / "日本語 モデル"), write_adapter(root / "others" / "adapter", "x")
    model = sealed(root, "export", HfModel, plain)
    sealed(root, "lora", Adapter, adapter, model=model)
    save_steps(root / ".partial" / f"pretrain-{KEY}" / ".scratch" / "checkpoints", 3, 6, 9)
    nemo = root / ".partial" / f"lora-{KEY}" / ".scratch" / "nemo" / "checkpoints"
    nemo_folders.write(nemo / "z-last", 10, 80)
    nemo_folders.write(nemo / "a-last", 20, 160)
    nemo_folders.write(root / "others" / "imported", 0)
    shutil.copytree(plain, root / "others" / "trainer" / "checkpoint-500")
    (root / "others/trainer/checkpoint-500/trainer_state.json").write_text('{"global_step": 500}')
    (root / "others/trainer/checkpoint-500/optimizer.pt").write_bytes(b"x")
    return root


@pytest.fixture
def store(everything: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(everything, tmp_path / "store"))


def listed(tsuzuki, *words: object) -> list[dict]:
    return [json.loads(line) for line in tsuzuki("checkpoints", "list", *words, "--json").stdout.splitlines()]


def test_list_finds_every_kind_with_step_size_date_and_state(tsuzuki, store):
    rows = listed(tsuzuki, store)
    assert sorted((row["kind"], row["step"], row["sealed"]) for row in rows if row["step"] is not None) == [
        ("adapter", 7, True),
        ("hf_model", 7, True),
        ("hf_model", 500, False),
        ("nemo_checkpoint", 10, False),
        ("nemo_checkpoint", 20, False),
        ("transformers_checkpoint", 3, False),
        ("transformers_checkpoint", 6, False),
        ("transformers_checkpoint", 9, False),
    ]
    assert sorted(row["kind"] for row in rows if row["step"] is None) == ["adapter", "hf_model", "nemo_checkpoint"]
    assert all(row["whole"] and row["num_bytes"] > 0 and row["modified_at"].endswith("+00:00") for row in rows)
    table = tsuzuki("checkpoints", "list", store).stdout
    assert "日本語 モデル" in table and len(table.splitlines()) == len(rows) + 1


def test_list_of_one_checkpoint_or_of_nothing_works(tsuzuki, store, tmp_path, monkeypatch):
    assert [row["kind"] for row in listed(tsuzuki, store / "others" / "adapter")] == ["adapter"]
    (tmp_path / "empty").mkdir()
    assert listed(tsuzuki, tmp_path / "empty") == []
    monkeypatch.setenv("TSUZUKI_STORE", str(tmp_path / "empty"))
    assert tsuzuki("checkpoints", "list").stdout.startswith("kind")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (".partial/pretrain-{}/.scratch/checkpoints/step-00000009/optimizer.pt", "optimizer.pt holds"),
        (".partial/lora-{}/.scratch/nemo/checkpoints/a-last/weights/__0_0.distcp", "__0_0.distcp holds"),
        ("others/日本語 モデル/model.safetensors", "its header accounts for"),
        ("others/adapter/adapter_model.safetensors", "its header accounts for"),
        ("export/*/model.safetensors", "expected"),
    ],
)
def test_a_damaged_one_is_named_with_what_is_wrong(store, path, words):
    [file] = store.glob(path.format(KEY))
    os.truncate(file, file.stat().st_size - 5)
    damaged = [one for one in find(store) if one.damage]
    assert len(damaged) == 1 and damaged[0].path in file.parents and words in damaged[0].damage


def test_a_changed_bit_is_seen_where_hashes_are_known_and_asked_for(store):
    path = store / f".partial/pretrain-{KEY}/.scratch/checkpoints/step-00000009/parameters.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert not [one for one in find(store) if one.damage]
    assert [one.path for one in find(store, contents=True) if one.damage] == [path.parent]


def test_latest_is_the_furthest_of_the_training_that_wrote_last(tsuzuki, store):
    nemo = store / f".partial/lora-{KEY}/.scratch/nemo/checkpoints"
    for file in nemo.rglob("*"):
        os.utime(file, (4e9, 4e9 if "z-last" in str(file) else 3e9))
    assert latest(store).path == nemo / "a-last"
    assert tsuzuki("checkpoints", "latest", store).stdout == f"{nemo / 'a-last'}\n"
    (nemo / "a-last" / "weights" / ".metadata").unlink()
    assert latest(store).path == nemo / "z-last"
    found = tsuzuki("checkpoints", "latest", store, "--kind", "transformers_checkpoint").stdout
    assert found.endswith("step-00000009\n")


def test_latest_of_nothing_whole_says_what_was_passed_over(tmp_path):
    nemo_folders.write(tmp_path / "torn", 5)
    (tmp_path / "torn-unfinished").touch()
    with pytest.raises(MissingArtifact, match="torn: NeMo's marker"):
        latest(tmp_path)


def test_prune_keeps_the_last_ones_and_every_nth_and_touches_no_model(tsuzuki, store):
    folder = save_steps(store / f".partial/pretrain-{KEY}/.scratch/checkpoints", 12, 15)
    before = sorted(path for path in store.rglob("*") if folder not in path.parents)
    words = ("checkpoints", "prune", store, "--keep-last", 1, "--keep-every", 6)
    told = [json.loads(line) for line in tsuzuki(*words).stdout.splitlines()]
    assert sorted(row["step"] for row in told) == [3, 9, 10] and not any(row["deleted"] for row in told)
    assert sorted(path for path in store.rglob("*") if folder not in path.parents) == before
    assert "deleted" in tsuzuki(*words, "--yes").stderr
    assert [path.name for path in sorted(folder.iterdir())] == ["step-00000006", "step-00000012", "step-00000015"]
    gone = {path for path in before if not path.exists()}
    z_last = store / f".partial/lora-{KEY}/.scratch/nemo/checkpoints/z-last"
    assert gone and all(path == z_last or z_last in path.parents for path in gone)
    assert tsuzuki(*words, "--yes").stdout == ""


def test_prune_never_deletes_the_newest_whole_one_nor_what_may_be_in_the_making(tmp_path):
    nemo_folders.write(tmp_path / "old", 5)
    for file in (tmp_path / "old").rglob("*"):
        os.utime(file, (1e9, 1e9))
    (tmp_path / "old/weights/.metadata").unlink()
    nemo_folders.write(tmp_path / "whole", 10)
    nemo_folders.write(tmp_path / "newer", 20)
    (tmp_path / "newer-unfinished").touch()
    assert [one.path.name for one in prunable(tmp_path, keep_last=1)] == ["old"]
    shutil.rmtree(tmp_path / "whole")
    assert prunable(tmp_path, keep_last=1) == []


HOLD = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_what_a_running_training_holds_is_left_alone_until_it_is_dead(store):
    expected = [one.path for one in prunable(store, keep_last=1) if one.kind == "transformers_checkpoint"]
    assert len(expected) == 2
    old = next(one for one in prunable(store, keep_last=1) if one.path == expected[0])
    (store / ".locks").mkdir(exist_ok=True)
    words = [sys.executable, "-c", HOLD, store / ".locks" / KEY]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        held = [one for one in find(store) if one.held]
        assert len(held) == 5 and prunable(store, keep_last=1) == []
        assert delete(old) is False and old.path.is_dir()
        holder.kill()
    assert [one.path for one in prunable(store, keep_last=1) if one.kind == old.kind] == expected
    assert delete(old) is True and not old.path.exists()


def test_a_backup_is_named_by_time_equal_and_verified_and_lists_as_the_same(tsuzuki, store, tmp_path):
    for source in ("others/imported", "others/日本語 モデル", f"export/{next((store / 'export').iterdir()).name}"):
        copy = Path(tsuzuki("checkpoints", "back-up", store / source, tmp_path / "backups").stdout.strip())
        for file in (store / source).rglob("*"):
            assert not file.is_file() or (copy / file.relative_to(store / source)).read_bytes() == file.read_bytes()
        subprocess.run(["sha256sum", "--quiet", "-c", "BACKUP_SHA256SUMS"], cwd=copy, check=True)
        assert copy.parent == tmp_path / "backups"
    rows = listed(tsuzuki, tmp_path / "backups")
    assert sorted((row["kind"], row["sealed"], row["whole"]) for row in rows) == [
        ("hf_model", False, True),
        ("hf_model", True, True),
        ("nemo_checkpoint", False, True),
    ]
    assert sorted(Path(row["path"]).name.split("-")[0] for row in rows) == ["export", "imported", "日本語 モデル"]


def test_a_backup_of_what_is_not_whole_is_refused_and_leaves_nothing(store, tmp_path):
    checkpoints = store / f".partial/pretrain-{KEY}/.scratch/checkpoints"
    parameters = checkpoints / "step-00000009" / "parameters.safetensors"
    parameters.write_bytes(parameters.read_bytes()[:-1] + b"!")
    with pytest.raises(DamagedArtifact, match="another sha256"):
        back_up(checkpoints / "step-00000009", tmp_path / "t")
    (checkpoints / "step-00000006" / "state.json").unlink()
    with pytest.raises(DamagedArtifact, match=r"state\.json"):
        back_up(checkpoints / "step-00000006", tmp_path / "t")
    with pytest.raises(MissingArtifact, match="found no checkpoint"):
        back_up(checkpoints, tmp_path / "t")
    with pytest.raises(UsageError, match="lies in what is to be copied"):
        back_up(checkpoints / "step-00000003", checkpoints / "step-00000003" / "t")
    assert not list((tmp_path / "t").iterdir())


def test_a_backup_that_does_not_fit_is_refused_before_a_byte_is_written(tmp_path):
    path = nemo_folders.write(tmp_path / "huge", 5)
    os.truncate(path / "weights/__0_0.distcp", 2 * shutil.disk_usage(tmp_path).free)  # sparse
    with pytest.raises(StorageError, match="MB are free, expected"):
        back_up(path, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_a_backup_killed_at_any_time_is_not_there_and_the_next_one_clears_up(tmp_path):
    path = nemo_folders.write(tmp_path / "large", 5)
    os.truncate(path / "weights/__0_0.distcp", 256 << 20)
    target = tmp_path / "t"
    words = [sys.executable, "-m", "flows.cli", "checkpoints", "back-up", path, target]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    while not list(target.glob(".backing-up-*/weights/__0_0.distcp")):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    [left] = target.iterdir()
    assert left.name.startswith(".backing-up-") and find(target) == []
    os.truncate(path / "weights/__0_0.distcp", 40_000)
    copy = back_up(path, target)
    assert list(target.iterdir()) == [copy]
    assert nemo_folders.read(copy)["model.output.weight"][0] == 5.0


def test_a_backup_that_still_runs_is_not_cleared_away(tmp_path):
    path = nemo_folders.write(tmp_path / "one", 5)
    (tmp_path / "t" / ".backing-up-other").mkdir(parents=True)
    (tmp_path / "t" / ".backing-up-dead").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD.replace("os.O_RDWR | os.O_CREAT", "os.O_RDONLY"), tmp_path / "t/.backing-up-other"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        copy = back_up(path, tmp_path / "t")
        assert {found.name for found in (tmp_path / "t").iterdir()} == {copy.name, ".backing-up-other"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["list", "/nowhere"], 1, "no such folder"),
        (["latest", "/nowhere"], 1, "no such folder"),
        (["latest", ".", "--kind", "zarr"], 2, "no such kind, expected one of"),
        (["prune", "/nowhere", "--keep-last", "1"], 1, "no such folder"),
        (["prune", "."], 2, "--keep-last"),
        (["back-up", "/nowhere", "/tmp/x"], 1, "found no checkpoint"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_clear_error_without_traceback(tsuzuki, words, code, message):
    result = tsuzuki("checkpoints", *words, code=code)
    assert message in result.stderr and "Traceback" not in result.stderr


def test_errors_carry_a_hint(tmp_path):
    for call in (lambda: find(tmp_path / "x"), lambda: latest(tmp_path), lambda: back_up(tmp_path / "x", tmp_path)):
        with pytest.raises(TsuzukiError) as caught:
            call()
        assert caught.value.hint
