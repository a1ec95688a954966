"""Failures that a disk stands behind: full, not to be written, or gone with the store on it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_contracts.errors import StorageError, TsuzukiError

SPACE_ERRORS = {errno.ENOSPC, errno.EDQUOT}
STORAGE_ERRORS = {*SPACE_ERRORS, errno.EROFS, errno.EACCES, errno.EPERM}
WORDS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
    # torch's archive writer says no more than this, whatever kept it from writing.
    "PytorchStreamWriter failed writing": errno.ENOSPC,
}
"""What libraries without error numbers (safetensors, tokenizers, torch) say of them."""


def storage_error_of(error: BaseException, root: Path) -> StorageError | None:
    """The StorageError that a failure of any library, or what it was raised from, stands for; None for all else.

    root: what is named where the failure names no file.
    """
    cause: BaseException | None = error
    wanted = STORAGE_ERRORS
    while cause is not None and not isinstance(cause, TsuzukiError):
        code = cause.errno if isinstance(cause, OSError) else None
        code = code if code in wanted else _code_in_words(cause)
        if code in wanted:
            return _told(code, getattr(cause, "filename", None) or root)
        if not cause.__suppress_context__:
            # What was raised on the way out, such as torch's at the end of a file, hides a full disk. A file that may
            # not be read is another thing: somebody may have dealt with that before.
            wanted = SPACE_ERRORS
        cause = cause.__cause__ if cause.__suppress_context__ else cause.__context__
    return None


def _code_in_words(error: BaseException) -> int | None:
    return next((code for words, code in WORDS.items() if words in str(error)), None)


def _told(code: int, path: object) -> StorageError:
    expected = "room on its disk" if code in SPACE_ERRORS else "to be allowed to read and write it"
    remedy = "free space" if code in SPACE_ERRORS else "fix its permissions or its mount, or name another `--store`"
    return StorageError(
        f"`{path}`: {os.strerror(code)}; expected {expected}",
        hint=f"{remedy}, then run the same command; finished stages and shards are kept",
    )


@contextmanager
def storage_errors(root: Path) -> Iterator[None]:
    """Turns a full disk or a store that cannot be written into a StorageError; all else passes unchanged."""
    try:
        yield
    except Exception as error:
        told = storage_error_of(error, root)
        if told is None:
            raise
        raise told from error


def is_same_file(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at its path; not so once its folder was deleted or unmounted."""
    held = os.fstat(descriptor)
    try:
        found = path.stat()
    except OSError:
        return False
    return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)


def vanished(root: Path) -> StorageError:
    """What is raised when the store is no longer the one that the stage began in."""
    return StorageError(
        f"`{root}`: the store was deleted, moved or unmounted while a stage wrote to it; expected it to stay",
        hint="bring it back, then run the same command; what it still holds is not built again",
    )
