"""A backfill on a Prefect server: a flow run of a deployment for each value, the same one if it is asked for again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import AwaitingRetry

from data_contracts.errors import UsageError
from data_contracts.files import digest_of
from flows.backfill.fillings import Filled, Filling

LOOK_SECONDS = 2.0


def fill_on_server(name: str, fillings: list[Filling], store: Path | None, until: str | None) -> Iterator[Filled]:
    """What became of each, in the order in which they end. Interrupted, it leaves the flow runs to the server.

    A run that an earlier backfill made for the same config is found again: what failed there is retried. Raises
    UsageError without a server, for a deployment that it does not have, and for one that cancels what has to wait.
    """
    if not PREFECT_API_URL.value():
        raise UsageError(
            "`--deployment`: found no Prefect server, expected one", hint="set PREFECT_API_URL, as `tsuzuki serve` says"
        )
    with get_client(sync_client=True) as client:
        deployment = _deployment(client, name, len(fillings))
        options = {key: str(value) for key, value in (("store", store), ("until", until)) if value is not None}
        pending = {_flow_run(client, deployment, filling, options).id: filling.value for filling in fillings}
        while pending:
            for run_id in list(pending):
                run = client.read_flow_run(run_id)
                if run.state and run.state.is_final():
                    yield _filled(run, pending.pop(run_id))
            time.sleep(LOOK_SECONDS if pending else 0)


def _deployment(client: SyncPrefectClient, name: str, num_runs: int) -> DeploymentResponse:
    try:
        found = client.read_deployment_by_name(name)
    except (ObjectNotFound, ValueError):
        raise UsageError(
            f"`--deployment {name}`: the server has none of that name, expected FLOW/DEPLOYMENT",
            hint="`prefect deployment ls` lists them",
        ) from None
    limit = found.global_concurrency_limit.limit if found.global_concurrency_limit else None
    options = found.concurrency_options
    if limit and limit < num_runs and options and options.collision_strategy == ConcurrencyLimitStrategy.CANCEL_NEW:
        raise UsageError(
            f"`--deployment {name}`: cancels what comes while {limit} of it runs, expected one that lets it wait",
            hint="take a deployment with collision strategy ENQUEUE, or leave --deployment out",
        )
    return found


def _flow_run(
    client: SyncPrefectClient, deployment: DeploymentResponse, filling: Filling, options: dict[str, Any]
) -> FlowRun:
    config = filling.config.model_dump(mode="json")
    key = digest_of(["backfill", str(deployment.id), config, options])
    run = client.create_flow_run_from_deployment(
        UUID(str(deployment.id)),
        parameters={**deployment.parameters, "config": config, **options},
        name=f"{filling.config.recipe}: backfill {filling.value}",
        idempotency_key=key,
        tags=["tsuzuki", "backfill"],
    )
    if run.state and run.state.is_final() and not run.state.is_completed():
        client.set_flow_run_state(run.id, AwaitingRetry(message="`tsuzuki backfill` asked for it again."))
    return run


def _filled(run: FlowRun, value: str) -> Filled:
    assert run.state is not None
    seconds = round(run.total_run_time.total_seconds(), 3)
    if run.state.is_completed():
        return Filled(value, "completed", seconds, flow_run=str(run.id))
    status = "stopped" if run.state.is_cancelled() else "failed"
    return Filled(value, status, seconds, flow_run=str(run.id), error=run.state.message)
