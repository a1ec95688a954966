"""Locks of this machine's GPUs, held by processes and freed by the kernel: they need no server and outlive no crash."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from data_contracts.errors import StorageError
from tasks.locks import try_lock

POLL_SECONDS = 0.5
EVERYBODY = "all"


def lock_folder() -> Path:
    """Where every user of this machine can lock: /run/lock, where files live as long as the machine runs, or /tmp."""
    kept = Path("/run/lock")
    return kept if os.access(kept, os.W_OK | os.X_OK) else Path("/tmp")  # noqa: S108 - opened without following links


@contextmanager
def gpu_lock(
    limit: str, devices: str | None, num_slots: int, folder: Path, on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Holds one of the limit's slots on the GPUs that CUDA_VISIBLE_DEVICES names (`devices`; None: all of them).

    Waits for it as long as it takes. Who names other devices is not waited for. Raises StorageError where the folder's
    files cannot be opened.
    """
    held, waited = _try_slots(limit, devices, num_slots, folder), False
    while held is None:
        if not waited:
            on_wait()
        waited = True
        time.sleep(POLL_SECONDS)
        held = _try_slots(limit, devices, num_slots, folder)
    with held:
        yield


def _try_slots(limit: str, devices: str | None, num_slots: int, folder: Path) -> ExitStack | None:
    for slot in range(num_slots):
        if held := _try_slot(f"{limit}.{slot}", devices, folder):
            return held
    return None


def _try_slot(slot: str, devices: str | None, folder: Path) -> ExitStack | None:
    """One slot on all the devices named, or on none: whoever uses all of them keeps out whoever uses one."""
    named = sorted({device.strip() for device in devices.split(",")}) if devices is not None else []
    wanted = [(EVERYBODY, fcntl.LOCK_SH if named else fcntl.LOCK_EX), *((device, fcntl.LOCK_EX) for device in named)]
    with ExitStack() as held:
        for device, kind in wanted:
            descriptor = _open(folder / f"tsuzuki.{quote(f'{slot}.{device}', safe='')}.lock")
            held.callback(os.close, descriptor)
            if not try_lock(descriptor, kind):
                return None
        return held.pop_all()
    return None


def _open(path: Path) -> int:
    """Another user's file is locked as it is: to read it is enough, and to create it anew would be refused."""
    try:
        while True:
            try:
                return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                _create(path)
    except OSError as error:
        raise StorageError(
            f"`{path}`: {os.strerror(error.errno or 0)}, expected a lock file that this user can read",
            hint="set TSUZUKI_LOCK_FOLDER to a folder that all users of this GPU share",
        ) from error


def _create(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return
    os.fchmod(descriptor, 0o644)  # whatever the umask
    os.close(descriptor)
