"""What a scan leaves on disk for the search of duplicates: ids, texts and fingerprints, read back a column at a time.

A part is a run of documents with one file a column. Band keys lie band after band, so that one band of all documents is
read without the others; texts lie behind each other with their bounds, so that any few of them are read alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import pyarrow as pa

from tasks.curation.characters import text_buffers

PART_DOCUMENTS = 65_536
"""Band keys of a part wait in memory until it is whole: 16 MiB at 32 bands."""


class Fingerprints(NamedTuple):
    """What duplicates are sought by.

    digests: (documents, 16) uint8 xxh3_128 of the comparison text; lengths: (documents,) int64 its characters; keys:
    (documents, bands) uint64 MinHash band keys, no columns where near-duplicates are not sought.
    """

    digests: np.ndarray
    lengths: np.ndarray
    keys: np.ndarray


class Spool(NamedTuple):
    """The parts of all documents in order. starts: (parts + 1) number of the first document of each, and of all."""

    folder: Path
    parts: tuple[str, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, folder: Path, parts: Sequence[tuple[str, int]]) -> Spool:
        """parts: names and numbers of documents, in the order of the documents."""
        starts = np.concatenate(([0], np.cumsum([size for _, size in parts], dtype=np.int64)))
        return cls(folder, tuple(name for name, _ in parts), tuple(starts.tolist()))

    @property
    def num_documents(self) -> int:
        return self.starts[-1]

    def lengths(self) -> np.ndarray:
        return self._column("lengths", np.int64, 1)[:, 0]

    def digests(self) -> np.ndarray:
        """(documents, 2) uint64."""
        return self._column("digests", np.uint64, 2)

    def _column(self, kind: str, dtype: Any, width: int) -> np.ndarray:
        column = np.empty((self.num_documents, width), dtype=dtype)
        for part, start, stop in zip(self.parts, self.starts, self.starts[1:], strict=False):
            column[start:stop] = np.fromfile(self.folder / f"{part}.{kind}", dtype=dtype).reshape(-1, width)
        return column

    def band(self, band: int) -> np.ndarray:
        """(documents,) uint64 keys of one band."""
        keys = np.empty(self.num_documents, dtype=np.uint64)
        for part, start, stop in zip(self.parts, self.starts, self.starts[1:], strict=False):
            size = stop - start
            path = self.folder / f"{part}.keys"
            keys[start:stop] = np.fromfile(path, dtype=np.uint64, count=size, offset=band * size * 8)
        return keys

    def ids(self) -> pa.LargeStringArray:
        """Ids of all documents, in one piece."""
        bounds = np.zeros(self.num_documents + 1, dtype=np.int64)
        for part, start, stop in zip(self.parts, self.starts, self.starts[1:], strict=False):
            bounds[start + 1 : stop + 1] = (
                np.fromfile(self.folder / f"{part}.id_bounds", dtype=np.int64) + bounds[start]
            )
        data = np.empty(int(bounds[-1]), dtype=np.uint8)
        for part, start, stop in zip(self.parts, self.starts, self.starts[1:], strict=False):
            data[bounds[start] : bounds[stop]] = np.fromfile(self.folder / f"{part}.ids", dtype=np.uint8)
        return _strings(data, bounds)

    def texts(self, documents: np.ndarray) -> pa.LargeStringArray:
        """The texts of some documents, given in ascending order."""
        places = np.searchsorted(self.starts, documents, side="right") - 1
        sizes, offsets = np.empty(len(documents), np.int64), np.empty(len(documents), np.int64)
        runs = [(int(part), np.flatnonzero(places == part)) for part in np.unique(places)]
        for part, rows in runs:
            ends = np.memmap(self.folder / f"{self.parts[part]}.bounds", dtype=np.int64, mode="r")
            local = documents[rows] - self.starts[part]
            offsets[rows] = np.where(local > 0, ends[local - 1], 0)
            sizes[rows] = ends[local] - offsets[rows]
        bounds = np.concatenate(([0], np.cumsum(sizes)))
        data = np.empty(int(bounds[-1]), dtype=np.uint8)
        for part, rows in runs:
            with open(self.folder / f"{self.parts[part]}.texts", "rb", buffering=0) as file:
                _gather(file, data, bounds[rows].tolist(), sizes[rows].tolist(), offsets[rows].tolist())
        return _strings(data, bounds)

    def num_text_bytes(self) -> int:
        return sum((self.folder / f"{part}.texts").stat().st_size for part in self.parts)

    def remove(self, kind: str) -> None:
        """Frees the disk of a column that is not needed any more."""
        for part in self.parts:
            (self.folder / f"{part}.{kind}").unlink()


def _gather(file: BinaryIO, data: np.ndarray, starts: list[int], sizes: list[int], offsets: list[int]) -> None:
    view, descriptor = data.data, file.fileno()
    for start, size, offset in zip(starts, sizes, offsets, strict=True):
        done = 0
        while done < size:
            read = os.preadv(descriptor, [view[start + done : start + size]], offset + done)
            assert read, f"{file.name} is shorter than its bounds say"
            done += read


def _strings(data: np.ndarray, bounds: np.ndarray) -> pa.LargeStringArray:
    return pa.LargeStringArray.from_buffers(len(bounds) - 1, pa.py_buffer(bounds), pa.py_buffer(data))


class SpoolWriter:
    """Writes the parts of one job within a `with`. parts: names and numbers of documents of those that are whole."""

    def __init__(self, folder: Path, name: str) -> None:
        self.parts: list[tuple[str, int]] = []
        self._folder, self._name = folder, name
        self._files: dict[str, BinaryIO] = {}
        self._open = ExitStack()
        self._keys: list[np.ndarray] = []
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._open.close()

    def add(self, ids: pa.Array, texts: pa.Array, prints: Fingerprints) -> None:
        for kind, bounds_kind, strings in (("ids", "id_bounds", ids), ("texts", "bounds", texts)):
            data, bounds = text_buffers(strings)
            file = self._file(kind)
            # Ends only: the first text of a part begins at 0.
            self._file(bounds_kind).write((bounds[1:] - bounds[0] + file.tell()).tobytes())
            file.write(data[bounds[0] : bounds[-1]].data)
        self._file("digests").write(prints.digests.data)
        self._file("lengths").write(prints.lengths.data)
        self._keys.append(prints.keys)
        self._size += len(prints.lengths)
        if self._size >= PART_DOCUMENTS:
            self.close()

    def close(self) -> None:
        """Ends the part that is being written, if one is."""
        if not self._size:
            return
        self._file("keys").write(np.ascontiguousarray(np.concatenate(self._keys).T).data)
        self._open.close()
        self.parts.append((self._part, self._size))
        self._files, self._keys, self._size = {}, [], 0

    @property
    def _part(self) -> str:
        return f"{self._name}-{len(self.parts):03d}"

    def _file(self, kind: str) -> BinaryIO:
        if kind not in self._files:
            file = open(self._folder / f"{self._part}.{kind}", "wb")  # noqa: SIM115 - closed with the others
            self._files[kind] = self._open.enter_context(file)
        return self._files[kind]
