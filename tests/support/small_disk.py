"""A disk of a chosen size: a tmpfs that can be filled, made read-only, and torn away."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from pathlib import Path

import pytest

MS_REMOUNT_READ_ONLY = 0x20 | 0x1
ROOM_BYTES = 64 << 20


class SmallDisk:
    """Mounted at `folder`. Skips the test where mounting is not allowed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.attach()

    def attach(self) -> None:
        words = ["mount", "-t", "tmpfs", "-o", f"size={ROOM_BYTES}", "tmpfs", str(self.folder)]
        result = subprocess.run(words, capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"no mounting here: {result.stderr.strip()}")

    def leave(self, free_bytes: int) -> None:
        """That much room, and no more."""
        found = os.statvfs(self.folder)
        self._remount(f"size={(found.f_blocks - found.f_bfree) * found.f_frsize + free_bytes}")

    def enlarge(self) -> None:
        self._remount(f"size={ROOM_BYTES}")

    def make_read_only(self) -> None:
        """As soon as nobody has a file of it open for writing, without which the kernel refuses."""
        mount = ctypes.CDLL(None, use_errno=True).mount
        deadline = time.monotonic() + 120
        while mount(b"tmpfs", os.fsencode(self.folder), b"tmpfs", MS_REMOUNT_READ_ONLY, None):
            assert time.monotonic() < deadline, os.strerror(ctypes.get_errno())

    def make_writable(self) -> None:
        self._remount("rw")

    def tear_away(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def remove(self) -> None:
        if self.folder.is_mount():
            self.tear_away()

    def _remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)
