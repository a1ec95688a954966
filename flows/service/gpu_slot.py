"""Work on a GPU takes a lock of this machine and a slot of the server's limit: two runs never share one by accident."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL

from flows.service.gpu_lock import gpu_lock, lock_folder
from flows.service.outage import patiently, tell
from infra.settings import load_settings
from tasks.runtime import Runtime
from tasks.stage import Request

LEASE_SECONDS = 60.0
"""The shortest that Prefect's server takes: so long does a slot outlive a run that was killed."""
WAIT_SECONDS = 2.0
"""Between two looks at whether a slot is free."""
OTHER_MACHINES = ("slurm", "skypilot")


def needs_gpu(request: Request, runtime: Runtime) -> bool:
    """Whether building that stage works on a GPU of this machine: its device is cuda, or its engine is cudf."""
    if request.stage.engine_used(runtime.engine) == "cudf":
        return True
    if getattr(request.config, "device", None) != "cuda":
        return False
    elsewhere = getattr(request.config, "backend", None) == "nemo" and runtime.executor.kind in OTHER_MACHINES
    return not elsewhere


def ensure_gpu_limit(name: str, num_slots: int = 1) -> int:
    """Creates the limit where the server has none of that name; one that is there keeps its slots. Returns how many."""
    with get_client(sync_client=True) as client:
        try:
            return client.read_global_concurrency_limit_by_name(name).limit
        except ObjectNotFound:
            try:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=num_slots))
            except ObjectAlreadyExists:
                return ensure_gpu_limit(name)  # another run was faster
            return num_slots


@contextmanager
def gpu_slot(limit: str, task_run_id: UUID, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds one slot of the server's limit and this machine's lock, waiting for them as long as it takes.

    Prefect's temporary server knows of no other run: without PREFECT_API_URL the lock alone is held. The lease of a
    killed holder runs out by itself; the lock ends with its process, and holds where a server that was down for long
    gave the slot to another.
    """
    settings = load_settings()
    num_slots, slot = 1, nullcontext()
    if PREFECT_API_URL.value():
        num_slots = patiently(lambda: ensure_gpu_limit(limit))
        slot = _slot_of_server(limit, task_run_id)
    folder = settings.lock_folder or lock_folder()
    with slot, gpu_lock(limit, settings.cuda_visible_devices, num_slots, folder, on_wait):
        yield


@contextmanager
def _slot_of_server(limit: str, task_run_id: UUID) -> Iterator[None]:
    held = patiently(lambda: _entered(limit, task_run_id))
    try:
        yield
    finally:
        # The stage is done: what the server does not hear of runs out with the lease.
        tell(f"the end of a slot of {limit}", lambda: held.__exit__(None, None, None))


def _entered(limit: str, task_run_id: UUID) -> AbstractContextManager[None]:
    while True:
        # Looked at first, since each vain attempt leaves an error in Prefect's log.
        while not _is_free(limit):
            time.sleep(WAIT_SECONDS)
        slot = concurrency(
            limit,
            lease_duration=LEASE_SECONDS,
            strict=True,
            holder=ConcurrencyLeaseHolder(type="task_run", id=task_run_id),
            # The waiting is done here: Prefect's own hears no signal, so that a run that waits could not be cancelled.
            max_retries=0,
            # A server that is down for a minute must not end a training of days.
            raise_on_lease_renewal_failure=False,
        )
        try:
            slot.__enter__()
            return slot
        except ConcurrencySlotAcquisitionError as error:
            if not _is_taken(error):
                raise


def _is_free(limit: str) -> bool:
    with get_client(sync_client=True) as client:
        found = client.read_global_concurrency_limit_by_name(limit)
        return found.active_slots < found.limit


def _is_taken(error: ConcurrencySlotAcquisitionError) -> bool:
    cause = error.__cause__
    return isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code == httpx.codes.LOCKED
