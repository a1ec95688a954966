"""`tsuzuki checkpoints back-up`: a copy that is there as a whole, every byte of it read again, or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from data_contracts.errors import DamagedArtifact, MissingArtifact, StorageError, UsageError
from data_contracts.files import READ_SIZE_BYTES, FileEntry, HashingFile, hash_file, sync_path
from data_contracts.manifest import read_manifest
from flows.checkpoints.finding import TRANSFORMERS, Checkpoint, describe
from tasks.storage_faults import storage_errors
from tasks.training.checkpoint_seal import sealed_files

SUMS = "BACKUP_SHA256SUMS"
ASIDE_PREFIX = ".backing-up-"
SPARE_BYTES = 64 << 20
"""Space that must be left after the copy."""


class _Source(NamedTuple):
    name: str
    num_bytes: int
    modified_ns: int


def back_up(source: Path, target: Path) -> Path:
    """The folder `<target>/<name>-<UTC time>` with a copy of a checkpoint and `BACKUP_SHA256SUMS` for `sha256sum -c`.

    The copy is read from the disk again before it gets its name, and must have the hashes of the source, and those that
    the source itself recorded. A kill leaves a hidden folder that the next back-up to `target` removes. Raises
    MissingArtifact, DamagedArtifact for a source that is not whole, and StorageError where space is short.
    """
    source, target = source.resolve(), target.absolute()
    found = _whole(source)
    if source in (target.resolve(), *target.resolve().parents):
        raise UsageError(f"`{target}`: lies in what is to be copied", hint="name a folder outside of the checkpoint")
    files = _files(source)
    _check_space(target, sum(file.num_bytes for file in files))
    final = target / f"{_name(found)}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        with _aside(target, final) as aside:
            entries = [_copy(source, aside, file.name) for file in files]
            _compare(source, aside, files, entries, found)
            _seal(aside, entries)
            aside.rename(final)
        sync_path(target)
    return final


def _whole(source: Path) -> Checkpoint:
    found = describe(source) if source.is_dir() else None
    if found is None:
        raise MissingArtifact(
            f"`{source}`: found no checkpoint, model or adapter",
            hint="`tsuzuki checkpoints list` names those there are",
        )
    if found.damage:
        raise DamagedArtifact(
            f"`{source}`: {found.damage}; expected a whole {found.kind}", hint="back up another one; see `list`"
        )
    return found


def _name(found: Checkpoint) -> str:
    """What the copy is called after: the folder, or for an artifact, whose folder is its key, stage and key."""
    return f"{found.path.parent.name}-{found.path.name[:12]}" if found.sealed else found.path.name


def _files(source: Path) -> list[_Source]:
    files = []
    for folder, names, file_names in os.walk(source):
        if links := [name for name in names if (Path(folder) / name).is_symlink()]:
            raise StorageError(
                f"`{Path(folder) / links[0]}`: found a link to a folder, expected files", hint="copy it in"
            )
        for name in file_names:
            status = (Path(folder) / name).stat()
            relative = (Path(folder) / name).relative_to(source).as_posix()
            files.append(_Source(relative, status.st_size, status.st_mtime_ns))
    return sorted(files)


def _check_space(target: Path, needed: int) -> None:
    existing = next(folder for folder in (target, *target.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed + SPARE_BYTES:
        raise StorageError(
            f"`{target}`: {free / 1e6:,.0f} MB are free, expected {(needed + SPARE_BYTES) / 1e6:,.0f} MB for the copy",
            hint="free space there, or name a target on another disk; nothing was written",
        )


@contextmanager
def _aside(target: Path, final: Path) -> Iterator[Path]:
    """A hidden folder beside the final one, locked as long as this process lives; gone on an error."""
    aside = target / f"{ASIDE_PREFIX}{final.name}"
    with ExitStack() as held:
        with _locked(target):  # nobody else may clear the folder away before it has its lock
            _remove_leftovers(target)
            if final.exists() or aside.exists():
                raise StorageError(f"`{final}`: another back-up has that name", hint="run it again in a second")
            aside.mkdir()
            held.enter_context(_locked(aside))
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)  # after the rename there is nothing of that name


def _remove_leftovers(target: Path) -> None:
    """Removes what back-ups that were killed have left; one that still runs holds its lock."""
    for leftover in target.glob(f"{ASIDE_PREFIX}*"):
        with suppress(BlockingIOError), _locked(leftover, fcntl.LOCK_NB):
            shutil.rmtree(leftover)


@contextmanager
def _locked(folder: Path, flags: int = 0) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(descriptor)


def _copy(source: Path, aside: Path, name: str) -> FileEntry:
    with open(source / name, "rb") as reader, HashingFile(aside / name) as writer:
        while chunk := reader.read(READ_SIZE_BYTES):
            writer.write(chunk)
    shutil.copystat(source / name, aside / name)
    sync_path(aside / name)
    return writer.entry(name)


def _compare(source: Path, aside: Path, files: list[_Source], entries: list[FileEntry], found: Checkpoint) -> None:
    recorded = {entry.name: entry.sha256 for entry in _recorded(found)}
    for entry in entries:
        _forget(aside / entry.name)
        again = hash_file(aside / entry.name, entry.name)
        if again != entry:
            raise StorageError(f"`{aside / entry.name}`: the disk gives back other bytes than were written to it")
        if recorded.get(entry.name, entry.sha256) != entry.sha256:
            raise DamagedArtifact(
                f"`{source / entry.name}`: has another sha256 than when it was written", hint="back up another one"
            )
    if _files(source) != files:
        raise DamagedArtifact(
            f"`{source}`: changed while it was copied", hint="run it again, when the training has left that checkpoint"
        )


def _recorded(found: Checkpoint) -> list[FileEntry]:
    """Hashes that the source was written with; NeMo's and others' folders have none."""
    if found.sealed:
        return read_manifest(found.path).files
    return sealed_files(found.path) if found.kind == TRANSFORMERS else []


def _forget(path: Path) -> None:
    """Drops a synced file from the page cache, so that the next read is one of the disk."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _seal(aside: Path, entries: list[FileEntry]) -> None:
    text = "".join(f"{entry.sha256}  {entry.name}\n" for entry in entries)
    (aside / SUMS).write_text(text, encoding="utf-8")
    for path in (aside / SUMS, *(folder for folder in aside.rglob("*") if folder.is_dir()), aside):
        sync_path(path)
