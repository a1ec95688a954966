"""One function over many jobs on the engine of the runtime, with results that do not depend on which or how many."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from multiprocessing.connection import wait
from typing import NamedTuple, TypeVar

from data_contracts.errors import WorkerLost
from tasks.runtime import Runtime

Job = TypeVar("Job")
Result = TypeVar("Result")

INLINE_BYTES = 16 << 20
"""Below this much input the start of worker processes (about 2 s each) costs more than they save."""

THREADED_BYTES = 512 << 20
"""Below this much input threads are done sooner than processes, where the work lets them run."""

NUM_GROUPS = 1024
"""What an engine schedules at most. Fewer jobs go one by one; more would cost it more than the work of a tiny shard."""


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
        return
    each = partial(_of_group, function)
    if runtime.engine == "dask":
        from tasks.dask_engine import map_on_dask

        running = map_on_dask(each, groups_of(jobs), runtime)
    elif lock_free and num_bytes < THREADED_BYTES:
        running = _map_in_threads(each, groups_of(jobs), min(runtime.workers, len(jobs)))
    else:
        running = _map_in_processes(each, groups_of(jobs), runtime.workers)
    for group, results in running:
        yield from zip(group, results, strict=True)


def groups_of(jobs: Sequence[Job]) -> list[tuple[Job, ...]]:
    """The jobs in order, gathered with their neighbours into NUM_GROUPS at most."""
    size = -(-len(jobs) // NUM_GROUPS)
    return [tuple(jobs[start : start + size]) for start in range(0, len(jobs), size)]


def _of_group(function: Callable[[Job], Result], group: tuple[Job, ...]) -> list[Result]:
    return [function(job) for job in group]


class _Kept(NamedTuple):
    pool: ProcessPoolExecutor
    workers: int


_kept: ContextVar[_Kept | None] = ContextVar("kept", default=None)


@contextmanager
def kept_processes(workers: int, ready_for: str | None = None) -> Iterator[None]:
    """Within, every `map_jobs` that takes this many processes takes the same ones, which are started but once.

    ready_for: module that they import at once, while this process does other things; without it, they are started when
    they are first needed.
    """
    with _processes(workers) as pool, ThreadPoolExecutor(1) as starter:
        token = _kept.set(_Kept(pool, workers))
        try:
            if ready_for:
                starter.submit(lambda: [pool.submit(_import, ready_for) for _ in range(workers)])
            yield
        finally:
            _kept.reset(token)


def _import(module: str) -> None:
    import_module(module)


def _map_in_threads(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Result]]:
    with ThreadPoolExecutor(workers) as pool:
        yield from _map_on(pool, function, jobs)


def _map_in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Result]]:
    kept = _kept.get()
    try:
        if kept and kept.workers == workers:
            yield from _map_on(kept.pool, function, jobs)
            return
        with _processes(min(workers, len(jobs))) as pool:
            yield from _map_on(pool, function, jobs)
    except BrokenProcessPool:
        raise worker_lost() from None


@contextmanager
def _processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned, never forked: the parent has threads (Prefect, numba, Arrow), whose locks a fork would copy held.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=die_with_parent) as pool:
        try:
            yield pool
        except (Exception, GeneratorExit):
            raise
        except BaseException:
            end_processes()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _map_on(pool: Executor, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
    """Leaves the pool idle, unless this process is told to end."""
    futures = {pool.submit(function, job): job for job in jobs}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    except (Exception, GeneratorExit):
        wait_for([future for future in futures if not future.cancel()])
        raise
    finally:
        for future in futures:
            future.cancel()


def end_processes() -> None:
    """Kills every worker process of this one, which is told to end: a job begun is not worth waiting for."""
    for process in multiprocessing.active_children():
        process.kill()


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
