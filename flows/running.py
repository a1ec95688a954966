"""How a flow runs its story: this machine's runtime, every stage a Prefect task, a stop where one was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from data_contracts.errors import UsageError
from flows.recipes import PipelineConfig
from flows.runs import Stopped
from flows.ui.names import title_of
from infra.settings import load_settings
from tasks.parallel import end_processes
from tasks.runtime import Runtime
from tasks.stages import ALL_STAGES
from tasks.training.executors import executor_of

Story = Callable[[PipelineConfig, Any], Any]


def runtime_of(config: PipelineConfig, store: Path | None = None) -> Runtime:
    """The runtime of this machine's settings; `store` overrides theirs."""
    values = load_settings().model_dump(include=set(Runtime.model_fields))
    if store is not None:
        values["store"] = store
    values["executor"] = executor_of(values["executor"])
    return Runtime(**{**values, "store": Path(values["store"]).absolute()}, wandb=config.wandb)


def check_stage_name(name: str | None) -> None:
    """Raises UsageError for a stage that does not exist."""
    if name is not None and name not in ALL_STAGES:
        raise UsageError(
            f"`{name}`: no such stage, expected one of {', '.join(ALL_STAGES)}", hint="see `tsuzuki stages`"
        )


def run_story(
    story: Story, config: PipelineConfig, store: Path | None, until: str | None, rebuild_from: str | None
) -> None:
    """Runs a story with every stage as a Prefect task. Raises what the first failing stage raises."""
    from flows.service.blocks import take_from_blocks
    from flows.service.ephemeral_server import tie_server_to_this_process
    from flows.service.life import end_with_service
    from flows.stage_flow import PrefectRun

    tie_server_to_this_process()
    settings = load_settings()
    end_with_service(settings.service_lock, settings.cancel_grace_seconds)
    take_from_blocks()
    check_stage_name(until)
    check_stage_name(rebuild_from)
    run = PrefectRun(
        runtime_of(config, store),
        rebuild_from,
        until,
        title=title_of(config),
        tags=("tsuzuki", config.recipe, config.source.kind),
        gpu_limit=settings.gpu_limit,
        reports_url=settings.reports_url,
        labels={"tsuzuki.recipe": config.recipe, "tsuzuki.source": config.source.kind},
    )
    if rebuild_from:
        run.began = _first_start()
    with suppress(Stopped), no_process_left():
        story(config, run)


def _first_start() -> datetime:
    """When the flow run of this process started for the first time, however often it has been retried since."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(str(flow_run.id))).start_time or datetime.now(UTC)


@contextmanager
def no_process_left() -> Iterator[None]:
    """Where the run is told to end, not failing, its worker processes end at once, whoever holds them."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        end_processes()
        raise
