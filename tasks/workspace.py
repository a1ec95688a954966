"""The folder a stage body writes into before it is sealed: hashed files, scratch that does not survive, progress."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.errors import StorageError
from data_contracts.files import FileEntry, HashingFile, hash_file
from data_contracts.rows import PARQUET_OPTIONS
from tasks.runtime import Progress, Runtime

SCRATCH_NAME = ".scratch"
PRIVATE = 0o700
"""Mode of folders that hold text before it is filtered, and job files: the owner's alone."""


def no_progress(done: int, total: int | None = None, unit: str = "", **figures: Any) -> None:
    """A progress that shows nothing."""


class Workspace:
    """What a stage body gets besides its inputs and config.

    path: the folder that becomes the artifact. scratch: a folder in it, the owner's alone, for half-done work; it
    survives a crash (a resumable stage finds it again) and is removed at the seal. lock_fd: descriptor that holds the
    lock of this key; a worker process that inherits it keeps others out even when its parent dies.
    """

    def __init__(
        self,
        path: Path,
        runtime: Runtime,
        progress: Progress = no_progress,
        *,
        resumed: bool = False,
        lock_fd: int = -1,
    ) -> None:
        self.path = path
        self.runtime = runtime
        self.progress = progress
        self.resumed = resumed
        self.lock_fd = lock_fd
        self.scratch = path / SCRATCH_NAME
        self.scratch.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        self._entries: dict[str, FileEntry] = {}

    @contextmanager
    def open(self, name: str) -> Iterator[HashingFile]:
        """A binary file of the artifact, hashed while it is written."""
        with HashingFile(self.path / name) as file:
            yield file
        self._entries[name] = file.entry(name)

    @contextmanager
    def parquet(self, name: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
        """A parquet file of the artifact with our writer options, hashed while it is written."""
        with self.open(name) as file, pq.ParquetWriter(file, schema, **PARQUET_OPTIONS) as writer:
            yield writer

    def write_bytes(self, name: str, content: bytes) -> None:
        with self.open(name) as file:
            file.write(content)

    def add(self, entry: FileEntry) -> None:
        """Declares a file that another process wrote and hashed under `path`."""
        self._entries[entry.name] = entry

    def files(self) -> list[FileEntry]:
        """Entries of all files now in the folder, sorted by name; those nobody hashed while writing are read.

        Raises StorageError if one that was written is gone.
        """
        names = [p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file()]
        names = sorted(name for name in names if not name.startswith(SCRATCH_NAME + "/"))
        if lost := sorted(self._entries.keys() - set(names)):
            raise StorageError(
                f"`{self.path / lost[0]}`: gone after it was written; expected every file of the stage to stay",
                hint="find out what deletes files in the store, then run the same command",
            )
        return [self._known(name) or hash_file(self.path / name, name) for name in names]

    def _known(self, name: str) -> FileEntry | None:
        entry = self._entries.get(name)
        return entry if entry and entry.bytes == (self.path / name).stat().st_size else None

    def clear_scratch(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
