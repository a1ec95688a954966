"""A wall clock that jumps while processes look at it; see `shifted_clock.c`."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_suffix(".c")
DAY_SECONDS = 86_400


class ShiftedClock:
    """The clock of every process started with `environment`. Skips the test where there is no C compiler."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if not compiler:
            pytest.skip("no cc here to compile the clock with")
        self._file, library = folder / "shift", folder / "shifted_clock.so"
        self._file.write_bytes(struct.pack("=q", 0))
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(self._file)}

    def jump(self, days: int) -> None:
        """From now on the clock is that many days ahead of the true one, or behind it if negative."""
        with open(self._file, "r+b") as file:
            file.write(struct.pack("=q", days * DAY_SECONDS))
