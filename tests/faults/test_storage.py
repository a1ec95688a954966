"""A disk that is full, read-only, somebody else's or gone: one clear error, nothing half-sealed; then it goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from faulting import FaultLog, assert_nothing_is_left, at_work
from plain_runs import run_plainly
from served import END_SECONDS, wait_for
from small_disk import SmallDisk

from command_line import MICRO, ROOT, Tsuzuki, digests
from data_contracts.errors import StorageError
from flows.inspecting.inspection import verify_path
from tasks.stages import STAGES

CORPUS_STAGES = list(STAGES)[:4]
ROOM_BYTES = {"export": 64 << 10, "deliver": 64 << 10}
"""What a stage is left with to begin; a model and a delivery need more."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with ExitStack() as stack:
        disk = SmallDisk(tmp_path / "disk")
        stack.callback(disk.remove)
        yield disk


def arguments(store: Path) -> tuple[object, ...]:
    return ("demo", "--config", MICRO, "--store", store)


def copy_until(stage: str, undisturbed: Path, store: Path) -> None:
    """What a run that got so far has in its store."""
    for name in list(STAGES)[: list(STAGES).index(stage)]:
        if not (store / name).exists():
            shutil.copytree(undisturbed / name, store / name)


def told_by(run: subprocess.Popen[str]) -> str:
    """What a run that must fail says, with exit code 1 and without a traceback."""
    _, told = run.communicate(timeout=END_SECONDS)
    assert run.returncode == 1, told
    assert "Traceback" not in told
    assert "\nhint: " in told
    return told


def fill_in_turn(stages: list[str], disk: SmallDisk, undisturbed: Path, fault_log: FaultLog) -> None:
    """Lets the disk fill up in each of the stages, then goes on with room."""
    store = disk.folder / "store"
    for stage in stages:
        copy_until(stage, undisturbed, store)
        with fault_log.trying("disk full") as recovery:
            disk.leave(ROOM_BYTES.get(stage, 16 << 10))
            with pytest.raises(StorageError, match="No space left on device") as raised:
                run_plainly(store, until=stage)
            assert "hint: free space" in str(raised.value)
            assert stage not in digests(store)
            disk.enlarge()
            recovery.begin()
            run_plainly(store, until=stage)
            assert digests(store)[stage] == digests(undisturbed)[stage]
    assert not [damage for _, damage in verify_path(store) if damage]
    assert_nothing_is_left(store)


def test_a_disk_that_fills_up_in_the_corpus_half_and_then_is_read_only(disk, tmp_path, fault_log):
    undisturbed, store = tmp_path / "undisturbed", disk.folder / "store"
    run_plainly(undisturbed, until="split")
    fill_in_turn(CORPUS_STAGES, disk, undisturbed, fault_log)
    with fault_log.trying("read-only store"):
        disk.make_read_only()
        assert run_plainly(store, until="split") == ["cached"] * 4
        with pytest.raises(StorageError, match=r"\.locks/[0-9a-f]{64}`: Read-only file system.*\nhint: fix"):
            run_plainly(store, until="split", rebuild_from="dedup")
        disk.make_writable()
        assert digests(store) == digests(undisturbed)


def test_a_full_disk_is_told_wherever_in_a_file_of_torch_the_room_ends(disk):
    script = """
import sys, torch
from pathlib import Path
from data_contracts.files import HashingFile
from tasks.storage_faults import storage_error_of
folder = Path(sys.argv[1])
try:
    with HashingFile(folder / "optimizer.pt") as file:
        torch.save({number: torch.zeros(5000) for number in range(30)}, file)
except BaseException as error:
    print(storage_error_of(error, folder))
"""
    for room_bytes in (40 << 10, 92 << 10, 248 << 10):  # torch's own words differ between them
        disk.leave(room_bytes)
        words = [sys.executable, "-c", script, str(disk.folder)]
        told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert "No space left on device" in told and "hint: free space" in told, told
        (disk.folder / "optimizer.pt").unlink()


@pytest.mark.faults
def test_a_disk_that_fills_up_in_the_training_half(disk, undisturbed, fault_log):
    fill_in_turn(["binarize", "export", "deliver"], disk, undisturbed, fault_log)


@pytest.mark.faults
def test_a_disk_that_fills_up_at_a_checkpoint_is_told_by_the_command_line(disk, undisturbed, fault_log):
    store = disk.folder / "store"
    copy_until("pretrain", undisturbed, store)
    with fault_log.trying("disk full") as recovery:
        disk.leave(192 << 10)
        told = told_by(Tsuzuki().start("run", *arguments(store)))
        assert "No space left on device" in told
        assert set(digests(store)) == set(list(STAGES)[:6])
        disk.enlarge()
        recovery.begin()
        run_plainly(store)
    assert digests(store) == digests(undisturbed)
    assert_nothing_is_left(store)


@pytest.mark.faults
def test_a_store_that_becomes_read_only_in_the_middle_of_a_run(disk, undisturbed, fault_log):
    store = disk.folder / "store"
    with fault_log.trying("read-only store") as recovery:
        run = Tsuzuki().start("run", *arguments(store))
        wait_for(lambda: run.poll() is not None or "filter" in digests(store), END_SECONDS)
        disk.make_read_only()
        assert "Read-only file system" in told_by(run)
        disk.make_writable()
        recovery.begin()
        run_plainly(store)
    assert digests(store) == digests(undisturbed)
    assert_nothing_is_left(store)


@pytest.mark.faults
@pytest.mark.parametrize("way", ["deleted", "unmounted"])
def test_a_store_that_vanishes_in_the_middle_of_a_training(way, disk, undisturbed, fault_log):
    store = disk.folder / "store"
    copy_until("pretrain", undisturbed, store)
    with fault_log.trying("store vanishing") as recovery:
        run = Tsuzuki().start("run", *arguments(store))
        wait_for(lambda: run.poll() is not None or at_work("pretrain", store), END_SECONDS)
        if way == "deleted":
            subprocess.run(["rm", "-rf", str(store)], check=True)
        else:
            disk.tear_away()
        assert "deleted, moved or unmounted" in told_by(run)
        assert not [path for path in disk.folder.rglob("*") if path.is_file()]
        if way == "unmounted":
            disk.attach()
        recovery.begin()
        run_plainly(store)
    assert digests(store) == digests(undisturbed)
    assert_nothing_is_left(store)


@pytest.mark.faults
@pytest.mark.skipif(bool(os.getuid()) or not shutil.which("setpriv"), reason="only root can give files to another user")
def test_somebody_elses_store_serves_what_it_holds_and_names_what_it_refuses(tmp_path, undisturbed, fault_log):
    store = tmp_path / "store"
    copy_until("pretrain", undisturbed, store)
    store.chmod(0o755)
    give_to(65534, store)
    with fault_log.trying("permission denied") as recovery:
        result = run_without_roots_rights("run", *arguments(store))
        assert result.returncode == 1, result.stderr
        assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == ["cached"] * 6
        assert f"error: `{store}/.locks" in result.stderr and "Permission denied" in result.stderr
        assert "\nhint: " in result.stderr and "Traceback" not in result.stderr
        give_to(0, store)
        recovery.begin()
        run_plainly(store)
        assert digests(store) == digests(undisturbed)


def give_to(user: int, folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, -1)


def run_without_roots_rights(*words: object) -> subprocess.CompletedProcess[str]:
    """As root, but under the rules for everybody. Another user might not be let into this interpreter's folder."""
    rights = "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown"
    return subprocess.run(
        ["setpriv", rights, *Tsuzuki.command, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
