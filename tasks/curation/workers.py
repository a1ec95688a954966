"""How the jobs of dedup and split are spread: never more workers than memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from tasks.parallel import THREADED_BYTES, kept_processes, map_jobs
from tasks.runtime import Runtime

Job = TypeVar("Job")
Result = TypeVar("Result")

WORKER_BYTES = 384 << 20
"""What a process takes that scans, compares or writes: its libraries, a row group and the buffers of a portion."""


def map_light(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    runtime: Runtime,
    num_bytes: int,
    worker_bytes: int = WORKER_BYTES,
) -> Iterator[tuple[Job, Result]]:
    """As `map_jobs`, for functions that mostly run without Python's lock: kernels, Arrow, hashing, files.

    num_bytes: text that all jobs together go through; worker_bytes: memory that a worker takes. Half of the runtime's
    memory is the workers', the other half this process'.
    """
    runtime = runtime.model_copy(update={"workers": _num_workers(runtime, worker_bytes)})
    yield from map_jobs(function, jobs, runtime=runtime, num_bytes=num_bytes, lock_free=True)


def light_processes(runtime: Runtime, *, num_bytes: int) -> AbstractContextManager[None]:
    """Within, the processes of `map_light` are started once, and where a GPU does the rest, while it does so.

    num_bytes: as for `map_light`.
    """
    ahead = runtime.engine == "cudf" and num_bytes >= THREADED_BYTES
    return kept_processes(_num_workers(runtime, WORKER_BYTES), "tasks.curation.selecting" if ahead else None)


def _num_workers(runtime: Runtime, worker_bytes: int) -> int:
    return max(1, min(runtime.workers, runtime.memory_bytes // 2 // worker_bytes))
