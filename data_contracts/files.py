"""Files whose sha256 is taken while they are written, and the canonical JSON that keys are made of."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field

READ_SIZE_BYTES = 1 << 20


def write_private(path: Path, text: str) -> None:
    """Writes a text file anew that its owner alone can read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


class FileEntry(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Path relative to the artifact's folder, with forward slashes.")
    bytes: int = Field(ge=0, description="Size in bytes.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the content, in lower-case hex.")


class HashingFile(io.RawIOBase):
    """A binary file opened for writing that knows its size and sha256 when it is closed.

    Write-only and sequential on purpose: a seek would make the running hash a lie, so there is none.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file: BinaryIO = open(path, "wb")  # noqa: SIM115 - closed by close()
        self._sha256 = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._file.write(view)
        self._sha256.update(view)
        self._size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def entry(self, name: str) -> FileEntry:
        """The entry of what was written so far, under the artifact-relative `name`."""
        return FileEntry(name=name, bytes=self._size, sha256=self._sha256.hexdigest())


def hash_file(path: Path, name: str | None = None) -> FileEntry:
    """The entry of a file that already lies on disk, by reading it once."""
    sha256, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(READ_SIZE_BYTES):
            sha256.update(chunk)
            size += len(chunk)
    return FileEntry(name=name if name is not None else path.name, bytes=size, sha256=sha256.hexdigest())


def write_whole(path: Path, text: str) -> None:
    """Writes beside and renames, so that a file that is there is whole, whenever its writer is killed."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def sync_path(path: Path) -> None:
    """Waits until a file, or a folder's list of names, has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces: equal values give equal bytes. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(value: Any) -> str:
    """Lower-case hex sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_of_files(entries: Iterable[FileEntry]) -> str:
    """Digest of a set of files by name and content, whatever their order."""
    return digest_of(sorted([entry.name, entry.sha256] for entry in entries))
