"""How the jobs of dedup and split are spread: threads where processes would not pay, never more than memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from tasks.parallel import map_jobs
from tasks.runtime import Runtime

Job = TypeVar("Job")
Result = TypeVar("Result")

WORKER_BYTES = 384 << 20
"""What a process takes that scans, compares or writes: its libraries, a row group and the buffers of a portion."""

THREADED_BYTES = 512 << 20
"""Text that threads of this process go through sooner than processes, which take a second or two to start."""


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
    workers = max(1, min(runtime.workers, runtime.memory_bytes // 2 // worker_bytes))
    runtime = runtime.model_copy(update={"workers": workers})
    if num_bytes >= THREADED_BYTES or runtime.engine != "local" or min(workers, len(jobs)) <= 1:
        yield from map_jobs(function, jobs, runtime=runtime, num_bytes=num_bytes)
        return
    with ThreadPoolExecutor(min(workers, len(jobs))) as pool:
        futures = {pool.submit(function, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)
