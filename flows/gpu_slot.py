"""Work on a GPU takes a slot of a Prefect global concurrency limit, so that two runs never share one by accident."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL

from tasks.runtime import Runtime
from tasks.stage import Request

LEASE_SECONDS = 60.0
"""The shortest that Prefect's server takes: so long does a slot outlive a run that was killed."""
OTHER_MACHINES = ("slurm", "skypilot")


def needs_gpu(request: Request, runtime: Runtime) -> bool:
    """Whether building that stage works on a GPU of this machine: its device is cuda, or its engine is cudf."""
    if request.stage.engine_used(runtime.engine) == "cudf":
        return True
    if getattr(request.config, "device", None) != "cuda":
        return False
    elsewhere = getattr(request.config, "backend", None) == "nemo" and runtime.executor.kind in OTHER_MACHINES
    return not elsewhere


def ensure_gpu_limit(name: str, num_slots: int = 1) -> None:
    """Creates the limit where the server has none of that name; one that is there keeps its slots."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            try:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=num_slots))
            except ObjectAlreadyExists:
                return  # another run was faster


@contextmanager
def gpu_slot(limit: str, task_run_id: UUID) -> Iterator[None]:
    """Holds one slot, waiting for it as long as it takes; the lease of a killed holder runs out by itself.

    Without a server of its own (Prefect's temporary one) nothing is held: that one never takes back what a killed run
    held, so that the next run would wait for ever.
    """
    if not PREFECT_API_URL.value():
        yield
        return
    ensure_gpu_limit(limit)
    with concurrency(
        limit,
        lease_duration=LEASE_SECONDS,
        strict=True,
        holder=ConcurrencyLeaseHolder(type="task_run", id=task_run_id),
        # A server that is down for a minute must not end a training of days.
        raise_on_lease_renewal_failure=False,
    ):
        yield
