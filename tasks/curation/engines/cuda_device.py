"""One NVIDIA GPU: cuDF reads and sorts, CuPy holds the arrays and compiles our kernels, RMM owns the memory."""

# pyright: reportMissingImports=false
# cudf, cupy, pylibcudf and rmm are of the extra `gpu`.
from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from data_contracts.errors import ConfigError, MissingPackage
from tasks.curation.documents import RowGroup
from tasks.curation.engines.device import BLOCK, MAX_BLOCKS, THREAD, TextBatch, kernel_source

POOL_SHARE = 0.5
"""Share of the free memory that is taken at once; more is taken when it is needed."""


@cache
def cuda_device() -> CudaDevice:
    """The first GPU that this process sees, with all its memory behind one pool from now on.

    Raises MissingPackage without the extra `gpu`, ConfigError without a GPU.
    """
    num_gpus()
    try:
        return CudaDevice()
    except ImportError as error:
        raise MissingPackage.of("engine cudf", error.name or "cudf", "gpu") from None


@cache
def cuda_kernels() -> CudaKernels:
    """The first GPU that this process sees, to run kernels alone: memory is taken as it is needed, so that many
    processes can share the GPU. Raises as `cuda_device`."""
    num_gpus()
    return CudaKernels()


def num_gpus() -> int:
    """GPUs that this process sees. Raises as `cuda_device`."""
    try:
        import cupy
    except ImportError:
        raise MissingPackage.of("engine cudf", "cupy", "gpu") from None
    try:
        return cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise ConfigError(
            f"`engine`: found cudf and no GPU ({error}), expected an NVIDIA GPU with a driver for CUDA 13",
            hint="run it where nvidia-smi lists a GPU, or use the engine local",
        ) from None


class CudaKernels:
    """See `Kernels`."""

    def __init__(self) -> None:
        import cupy

        self.xp = cupy
        self._kernels = cupy.RawModule(code=kernel_source(), options=("-std=c++17",))
        self._kernels.compile()  # once, and kept on disk, before several processes need them

    def run(self, kernel: str, num_items: int, *arguments: Any, threads: int = THREAD) -> None:
        if num_items:
            blocks = min(-(-num_items * threads // BLOCK), MAX_BLOCKS)
            self._kernels.get_function(kernel)((blocks,), (BLOCK,), arguments)

    def to_host(self, array: Any) -> np.ndarray:
        return self.xp.asnumpy(array)


class CudaDevice(CudaKernels):
    """See `Device`."""

    def __init__(self) -> None:
        import cudf
        import cupy
        import pylibcudf
        import rmm
        from rmm.allocators.cupy import rmm_cupy_allocator

        super().__init__()
        self._cudf, self._plc = cudf, pylibcudf
        self.capacity_bytes = int(rmm.mr.available_device_memory()[0])
        pool = int(self.capacity_bytes * POOL_SHARE) // 256 * 256
        self.memory = rmm.mr.StatisticsResourceAdaptor(
            rmm.mr.PoolMemoryResource(rmm.mr.CudaMemoryResource(), initial_pool_size=pool)
        )
        rmm.mr.set_current_device_resource(self.memory)
        cupy.cuda.set_allocator(rmm_cupy_allocator)

    def order(self, keys: Any) -> Any:
        return self._order(self._plc.Column.from_cuda_array_interface(keys))

    def order_of_strings(self, strings: pa.LargeStringArray) -> Any:
        return self._order(self._plc.Column.from_arrow(strings))

    def _order(self, column: Any) -> Any:
        types = self._plc.types
        order = self._plc.sorting.stable_sorted_order(
            self._plc.Table([column]), [types.Order.ASCENDING], [types.NullOrder.AFTER]
        )
        return self._view(order, np.int32, order.size()).astype(np.int64)

    def read(self, groups: Sequence[RowGroup]) -> TextBatch:
        shards = [(path, [group.group for group in run]) for path, run in groupby(groups, lambda group: group.path)]
        rows = self._cudf.read_parquet(
            [str(path) for path, _ in shards],
            columns=["id", "text"],
            row_groups=[numbers for _, numbers in shards],
            use_pandas_metadata=False,
        )
        ids = rows["id"].to_arrow().cast(pa.large_string())
        texts, _ = rows["text"].to_pylibcudf()
        ends = texts.child(0)
        width = np.int64 if ends.type().id() == self._plc.types.TypeId.INT64 else np.int32
        first = ends.offset() + texts.offset()
        bounds = self._view(ends, width, first + texts.size() + 1)[first:].astype(np.int64)
        start, stop = int(bounds[0]), int(bounds[-1])
        return TextBatch(ids, self._view(texts, np.uint8, stop)[start:], bounds - start)

    def free_bytes(self) -> int:
        return self.capacity_bytes - self.memory.allocation_counts.current_bytes

    def _view(self, column: Any, dtype: Any, size: int) -> Any:
        """The first values of a column's data as an array that keeps the column alive."""
        if not size:
            return self.xp.empty(0, dtype=dtype)
        data = column.data()
        memory = self.xp.cuda.UnownedMemory(data.ptr, data.size, column)
        return self.xp.ndarray((size,), dtype, self.xp.cuda.MemoryPointer(memory, 0))
