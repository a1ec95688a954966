"""The lock of this machine's GPUs: by limit, device and slot; no server, nothing stale after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from command_line import ROOT
from data_contracts.errors import StorageError
from flows.service.gpu_lock import gpu_lock

HOLDER = """
import sys, time
from pathlib import Path
from flows.service.gpu_lock import gpu_lock
with gpu_lock("東京", "0", 1, Path(sys.argv[1])):
    print("holding", flush=True)
    time.sleep(600)
"""


class Waits(Exception):
    """Somebody else has it."""


def wait() -> None:
    raise Waits


def holds(folder: Path, devices: str | None, num_slots: int = 1, limit: str = "東京") -> ExitStack:
    with ExitStack() as held:
        held.enter_context(gpu_lock(limit, devices, num_slots, folder, wait))
        return held.pop_all()
    raise AssertionError


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [("0", "0", True), ("0", "1", False), ("1,0", "0", True), (None, "1", True), ("1", None, True), (None, None, True)],
)
def test_runs_that_would_share_a_gpu_wait_for_each_other(tmp_path, first, second, shared):
    with holds(tmp_path, first):
        if shared:
            with pytest.raises(Waits):
                holds(tmp_path, second)
        else:
            holds(tmp_path, second).close()
    holds(tmp_path, second).close()


def test_a_limit_of_two_slots_lets_two_in_and_another_limit_is_apart(tmp_path):
    with holds(tmp_path, None, num_slots=2), holds(tmp_path, None, num_slots=2):
        with pytest.raises(Waits):
            holds(tmp_path, None, num_slots=2)
        holds(tmp_path, None, limit="../大阪").close()
    assert {path.parent for path in tmp_path.rglob("*")} == {tmp_path}


def test_a_killed_holder_frees_the_lock_and_a_waiting_one_gets_it(tmp_path):
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "holding\n"
        waited = []

        def kill() -> None:
            waited.append(holder.pid)
            os.kill(holder.pid, signal.SIGKILL)

        with gpu_lock("東京", "0", 1, tmp_path, kill):
            assert waited


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").touch()
    (tmp_path / "tsuzuki.x.0.all.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="TSUZUKI_LOCK_FOLDER"):
        holds(tmp_path, None, limit="x")
