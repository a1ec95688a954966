"""Work on a GPU takes a lock of this machine and a slot of the server's limit: two runs never share one by accident."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL

from flows.gpu_lock import gpu_lock, lock_folder
from infra.settings import load_settings
from tasks.runtime import Runtime
from tasks.stage import Request

LEASE_SECONDS = 60.0
"""The shortest that Prefect's server takes: so long does a slot outlive a run that was killed."""
OUTAGE_SECONDS = 900.0
"""So long is a server waited for that does not answer."""
RETRY_SECONDS = 2.0
OTHER_MACHINES = ("slurm", "skypilot")
T = TypeVar("T")
log = logging.getLogger(__name__)


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
        num_slots = _patiently(lambda: ensure_gpu_limit(limit))
        slot = _slot_of_server(limit, task_run_id)
    folder = settings.lock_folder or lock_folder()
    with slot, gpu_lock(limit, settings.cuda_visible_devices, num_slots, folder, on_wait):
        yield


@contextmanager
def _slot_of_server(limit: str, task_run_id: UUID) -> Iterator[None]:
    held = _patiently(lambda: _entered(limit, task_run_id))
    try:
        yield
    finally:
        try:
            held.__exit__(None, None, None)
        except httpx.HTTPError as error:
            # The stage is done; what the server does not hear of runs out with the lease.
            log.warning("slot of %s not given back: %s; its lease runs out in %.0f s", limit, error, LEASE_SECONDS)


def _entered(limit: str, task_run_id: UUID) -> AbstractContextManager[None]:
    slot = concurrency(
        limit,
        lease_duration=LEASE_SECONDS,
        strict=True,
        holder=ConcurrencyLeaseHolder(type="task_run", id=task_run_id),
        # A server that is down for a minute must not end a training of days.
        raise_on_lease_renewal_failure=False,
    )
    slot.__enter__()
    return slot


def _patiently(ask: Callable[[], T]) -> T:
    """What `ask` returns, asked again while the server does not answer: a new client of Prefect's gives up at once."""
    deadline = time.monotonic() + OUTAGE_SECONDS
    while True:
        try:
            return ask()
        except Exception as error:
            if not _is_outage(error) or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_SECONDS)


def _is_outage(error: BaseException) -> bool:
    """Whether the server was away, rather than of another opinion; Prefect's own errors name theirs as their cause."""
    cause = error if isinstance(error, httpx.HTTPError) else error.__cause__
    return isinstance(cause, httpx.TransportError) or (
        isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code >= 500
    )
