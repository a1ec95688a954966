"""Prefect's own folder needs room: without it, its server is waited for in vain, or answers with a wall of words."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_contracts.errors import StorageError, TsuzukiError
from infra.settings import environment_values

NEEDED_BYTES = 16 << 20
"""A new database takes 2 MB, and its log of writes some more."""
FULL_BYTES = 256 << 10


@contextmanager
def room_in_prefect_home() -> Iterator[None]:
    """Within, a run has a PREFECT_HOME that can be written.

    Raises StorageError where it cannot or has little room, and for a failure of Prefect's once it is full.
    """
    home = Path(environment_values(["PREFECT_HOME"]).get("PREFECT_HOME", "~/.prefect")).expanduser().absolute()
    _check(home, NEEDED_BYTES)
    try:
        yield
    except TsuzukiError:
        raise
    except Exception as error:
        try:
            _check(home, FULL_BYTES)
        except StorageError as cause:
            raise cause from error
        raise


def _check(home: Path, needed_bytes: int) -> None:
    folder = next(path for path in (home, *home.parents) if path.is_dir())
    hint = "free space there or fix its permissions, or set PREFECT_HOME to another folder; then run the same command"
    if not os.access(folder, os.W_OK):
        raise StorageError(f"`{home}`: cannot be written, expected Prefect's folder to be ours", hint=hint)
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise StorageError(
            f"`{home}`: {free / 1e6:.1f} MB of disk free, Prefect's database needs {needed_bytes / 1e6:.1f} MB",
            hint=hint,
        )
