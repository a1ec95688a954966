"""One function over many jobs on the engine of the runtime, with results that do not depend on which or how many."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from data_contracts.errors import WorkerLost
from tasks.runtime import Runtime

Job = TypeVar("Job")
Result = TypeVar("Result")

INLINE_BYTES = 16 << 20
"""Below this much input the start of worker processes (about 2 s each) costs more than they save."""

THREADED_BYTES = 512 << 20
"""Below this much input threads are done sooner than processes, where the work lets them run."""


def map_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    runtime: Runtime,
    num_bytes: int,
    lock_free: bool = False,
) -> Iterator[tuple[Job, Result]]:
    """Each job with its result, in the order in which they end.

    function: of a module's top level, it goes to other processes; num_bytes: input of all jobs together; lock_free:
    whether it mostly runs without Python's lock (kernels, Arrow, hashing, files), so that threads serve as well. With
    one worker, one job or little input, all is done in this process, unless a Dask scheduler is named. Raises what the
    function raises, WorkerLost when a process dies, MissingPackage when the engine is not installed.
    """
    small = min(runtime.workers, len(jobs)) <= 1 or num_bytes < INLINE_BYTES
    if not jobs or (small and not runtime.scheduler_address):
        yield from ((job, function(job)) for job in jobs)
    elif runtime.engine == "dask":
        from tasks.dask_engine import map_on_dask

        yield from map_on_dask(function, jobs, runtime)
    elif lock_free and num_bytes < THREADED_BYTES:
        yield from _map_in_threads(function, jobs, min(runtime.workers, len(jobs)))
    else:
        yield from _map_in_processes(function, jobs, min(runtime.workers, len(jobs)))


def _map_in_threads(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Result]]:
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(function, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _map_in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Result]]:
    # Spawned, never forked: the parent has threads (Prefect, numba, Arrow), whose locks a fork would copy held.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=die_with_parent) as pool:
        try:
            futures = {pool.submit(function, job): job for job in jobs}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise worker_lost() from None
        finally:
            pool.shutdown(cancel_futures=True)


def worker_lost() -> WorkerLost:
    """What is raised when a worker process ended without a result."""
    return WorkerLost(
        "a worker process died without saying why, expected a result for each shard",
        hint="often the machine ran out of memory; use fewer workers. Finished shards are kept",
    )


def die_with_parent() -> None:
    """Ends this worker as soon as its parent is gone, so that a killed run leaves nobody writing."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()
