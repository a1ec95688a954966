"""The Dask engine: the same jobs on a cluster of this machine's processes, or on one that is already there."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from functools import cache
from typing import Any, TypeVar

from data_contracts.errors import MissingPackage, WorkerLost
from tasks.parallel import die_with_parent, worker_lost
from tasks.runtime import Runtime

Job = TypeVar("Job")
Result = TypeVar("Result")

CONNECT_SECONDS = 10


def map_on_dask(
    function: Callable[[Job], Result], jobs: Sequence[Job], runtime: Runtime
) -> Iterator[tuple[Job, Result]]:
    """Each job with its result, in the order in which they end; jobs name files of the store, which all workers see.

    Raises what the function raises, WorkerLost when a worker dies in the middle of a job or the scheduler does not
    answer (any more), MissingPackage.
    """
    client = client_of(runtime.scheduler_address, runtime.workers)
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    # Not pure: a job is named by its files, whose content another attempt may have changed.
    futures = {client.submit(function, job, pure=False, retries=0): job for job in jobs}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    except KilledWorker:
        raise worker_lost() from None
    except CancelledError as error:
        # Nobody here cancels what is waited for: the client does, when its scheduler is gone.
        client_of.cache_clear()
        raise scheduler_lost(runtime.scheduler_address) from error
    finally:
        client.cancel(list(futures))


def scheduler_lost(address: str | None) -> WorkerLost:
    """What is raised when the scheduler is gone in the middle of the work."""
    return WorkerLost(
        f"`{address or 'dask'}`: the Dask scheduler is gone, expected the results of its jobs",
        hint="start it again, then run the same command; finished shards are kept",
    )


@cache
def client_of(address: str | None, workers: int) -> Any:
    """One client, and one cluster of this machine, for all stages of a run."""
    try:
        from distributed import LocalCluster
    except ImportError:
        raise MissingPackage.of("engine dask", "distributed", "dask") from None
    return connected(address) if address else client_on(LocalCluster, n_workers=workers, memory_limit=0)


def connected(address: str) -> Any:
    """A client of the scheduler at an address. Raises WorkerLost when none answers."""
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError) as error:
        raise WorkerLost(
            f"`{address}`: no Dask scheduler answered within {CONNECT_SECONDS} s ({type(error).__name__})",
            hint="start one with `dask scheduler`, or leave `scheduler_address` out for a cluster of this machine",
        ) from None
    atexit.register(_close, client)
    return client


def client_on(make_cluster: Callable[..., Any], **options: Any) -> Any:
    """A client of a new cluster of this machine, which ends with this process.

    make_cluster: LocalCluster or one of its kind, which also takes the options.
    """
    from dask import config
    from distributed import Client, WorkerPlugin

    class DieWithParent(WorkerPlugin):
        """A plugin and not a call, so that a worker that replaces a dead one gets it too."""

        def setup(self, worker: Any) -> None:
            die_with_parent()

    config.set({"distributed.scheduler.allowed-failures": 0})
    cluster = make_cluster(
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.ERROR,
        **options,
    )
    client = Client(cluster)
    client.register_plugin(DieWithParent())
    atexit.register(_close, client, cluster)
    return client


def _close(*opened: Any) -> None:
    """At the end of the process, when log handlers may be gone already."""
    logging.disable(logging.ERROR)
    for one in opened:
        one.close()
