"""What the engine `cudf` needs of a device: arrays, kernels, sorting and the reading of parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from tasks.curation.documents import RowGroup

SOURCES = ("kernels.cu", "score_kernels.cu", "repeat_kernels.cu", "language_kernels.cu")
"""Of the kernels, in the order in which they make one source."""

THREAD, WARP, BLOCK = 1, 32, 256
"""Threads that do an item of a kernel together; a block has BLOCK of them."""

MAX_BLOCKS = 1 << 20
"""Kernels stride over what is left."""


class TextBatch(NamedTuple):
    """Documents on the device. ids: on the host; data: (bytes,) uint8 array of the device with the UTF-8 of all texts;
    bounds: (documents + 1,) int64 of each in it, from 0."""

    ids: pa.LargeStringArray
    data: Any
    bounds: Any


class Kernels(Protocol):
    """A GPU that runs kernels, or what stands in for it in tests. Arrays are those of `xp`, a module like numpy."""

    xp: Any

    def run(self, kernel: str, num_items: int, *arguments: Any, threads: int = THREAD) -> None:
        """Runs a kernel of SOURCES; with no item, nothing.

        threads: how many the kernel takes for an item, at most BLOCK; arguments: contiguous arrays, np.int32 where
        the kernel has an int, np.int64 where it has an i64.
        """
        ...

    def to_host(self, array: Any) -> np.ndarray: ...


class Device(Kernels, Protocol):
    """Kernels, and what dedup needs beside them.

    capacity_bytes: memory that was free at the start.
    """

    capacity_bytes: int

    def order(self, keys: Any) -> Any:
        """(n,) int64 stable order of (n,) integers."""
        ...

    def order_of_strings(self, strings: pa.LargeStringArray) -> Any:
        """(n,) int64 order of strings by code points."""
        ...

    def read(self, groups: Sequence[RowGroup]) -> TextBatch:
        """The documents of row groups, at least one document."""
        ...

    def free_bytes(self) -> int:
        """Memory that is left on the device."""
        ...


def kernel_source() -> str:
    """All kernels in CUDA C++."""
    folder = Path(__file__).parent
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in SOURCES)


def inverse(device: Device, order: Any) -> Any:
    """The place of each item in an order of all of them."""
    places = device.xp.empty(len(order), dtype=np.int64)
    places[order] = device.xp.arange(len(order))
    return places


def ends_of(device: Kernels, sizes: Any) -> Any:
    """(n + 1,) int64 bounds of pieces of these sizes that lie behind each other."""
    bounds = device.xp.zeros(len(sizes) + 1, dtype=np.int64)
    if len(sizes):
        bounds[1:] = device.xp.cumsum(sizes, dtype=np.int64)
    return bounds
