"""The interpreter with NeMo that tests run, on the CPU, or on a GPU where TSUZUKI_TEST_DEVICE is cuda."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEVICE = os.environ.get("TSUZUKI_TEST_DEVICE", "cpu")
"""Where the trainings of the tests run."""


def nemo_python() -> Path:
    """The environment that `make nemo-env` makes, on the CPU in the wrapper that emulates CUDA; skips without it."""
    real = Path(os.environ.get("TSUZUKI_TEST_NEMO_PYTHON", ROOT / ".venv-nemo/bin/python"))
    if not real.exists():
        pytest.skip("no NeMo here: make nemo-env")
    return real if DEVICE == "cuda" else ROOT / "tests/support/nemo_cpu/python"


def run_nemo(script: Path, *arguments: Path | str, timeout_seconds: float = 240) -> None:
    """Runs a script with NeMo on the CPU, or skips. Raises AssertionError with the end of its output where it fails."""
    done = subprocess.run(
        [nemo_python(), script, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_seconds,
    )
    assert done.returncode == 0, done.stdout[-4000:]
