"""A Dask cluster with one device a worker: of all GPUs of this machine, or one that is already there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from data_contracts.errors import MissingPackage, WorkerLost
from tasks.curation.engines.cuda_device import cuda_device
from tasks.curation.engines.device import Device
from tasks.dask_engine import CONNECT_SECONDS, client_on, connected
from tasks.parallel import worker_lost

CHECK_SECONDS = 5
"""How often it is looked whether all workers are alive."""


class DeviceCluster:
    """Its workers by number. make_device: gives the device of the worker that calls it, the same for every call."""

    def __init__(self, client: Any, make_device: Callable[[], Device]) -> None:
        self.make_device = make_device
        self._client = client
        self._workers = sorted(client.nthreads())

    def __len__(self) -> int:
        return len(self._workers)

    def submit(self, worker: int, function: Callable[..., Any], *arguments: Any) -> Any:
        """A future of the call, which is made by that worker alone; futures of its own may be arguments."""
        return self._client.submit(function, *arguments, workers=[self._workers[worker]], pure=False, retries=0)

    def results(self, futures: Sequence[Any]) -> list[Any]:
        """Raises what the functions raise, and WorkerLost when any worker is gone."""
        from distributed import wait
        from distributed.scheduler import KilledWorker

        while True:
            try:
                wait(futures, timeout=CHECK_SECONDS)
                return [future.result() for future in futures]
            except KilledWorker:
                raise worker_lost() from None
            except TimeoutError:
                # What a dead worker knew is nowhere else, and a call that needs it would wait for ever.
                if not set(self._workers) <= set(self._client.nthreads()):
                    raise worker_lost() from None


def gpu_cluster(address: str | None) -> DeviceCluster:
    """All workers of the scheduler at an address, or one for each GPU that this process sees, as they are by now.

    Raises MissingPackage, WorkerLost when no scheduler or no worker answers.
    """
    client = _client_of(address)
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError:
        raise WorkerLost(
            f"`{address or 'cudf'}`: the scheduler had no worker within {CONNECT_SECONDS} s, expected one for each GPU",
            hint="start them with `dask cuda worker`, where they see the store",
        ) from None
    return DeviceCluster(client, cuda_device)


@cache
def _client_of(address: str | None) -> Any:
    """One client, and one cluster of this machine's GPUs, for all stages of a run."""
    try:
        import distributed  # noqa: F401

        if not address:
            import dask_cuda  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackage.of("engine cudf", error.name or "dask_cuda", "gpu") from None
    if address:
        return connected(address)
    # No limits for Dask: texts that a GPU has no room for wait on the host by our own doing, and memory of a machine
    # that grows with its use would look too small.
    return client_on(dask_cuda.LocalCUDACluster, memory_limit=0, device_memory_limit=None)
