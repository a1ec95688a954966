"""Locks of the kernel on open files: free again when whoever holds one is gone, however it went."""

from __future__ import annotations

import fcntl
from typing import IO, Any


def try_lock(file: int | IO[Any], kind: int = fcntl.LOCK_EX) -> bool:
    """Takes the lock unless another holds it, and says whether it did; it is held until the file is closed."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
