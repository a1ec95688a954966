"""The commands `tsuzuki serve` and `tsuzuki setup`: a Prefect server that runs the deployments of prefect.yaml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from flows.options import store_option

gpu_slots_option = click.option(
    "--gpu-slots",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Stages that may work on the GPU at a time, where the limit is new.",
)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Other than loopback only with a password.")
@click.option("--port", type=click.IntRange(1, 65535), default=4200, show_default=True)
@store_option
@gpu_slots_option
def serve(host: str, port: int, store: Path | None, gpu_slots: int) -> None:
    """Run Prefect's server, a worker and the deployments on this machine until Ctrl-C.

    State lies in PREFECT_HOME (SQLite). A run that was interrupted continues when this is started again.
    """
    from flows.service.serving import Address, Service, check_address, environment_of
    from infra.settings import load_settings, prepare_prefect

    prepare_prefect()
    settings = load_settings()
    address = Address(host, port, settings.server_auth.get_secret_value() if settings.server_auth else None)
    check_address(address)
    folder = (store or settings.store).absolute()
    service = Service(
        address,
        environment_of(address, folder),
        ("--working-dir", str(Path.cwd()), "--gpu-slots", str(gpu_slots)),
        settings.cancel_grace_seconds + 15,
        lambda line: click.echo(line, err=True),
    )
    click.echo(f"Prefect on {address.api_url.removesuffix('/api')}, store {folder}; Ctrl-C ends it", err=True)
    click.echo(f"elsewhere: export PREFECT_API_URL={address.api_url}", err=True)
    service.run()


@click.command()
@click.option(
    "--work-pool",
    "kind",
    default="process",
    show_default=True,
    help="How workers start runs: a file of infra/work_pools.",
)
@click.option("--working-dir", type=click.Path(path_type=Path), help="Where runs start. [default: a temporary folder]")
@gpu_slots_option
@click.option(
    "--automations",
    type=click.Path(path_type=Path),
    help="What the server does by itself. [default: infra/automations.yaml]",
)
def setup(kind: str, working_dir: Path | None, gpu_slots: int, automations: Path | None) -> None:
    """Prepare the Prefect server of PREFECT_API_URL: work pool, queues, limit of the GPU, deployments, automations."""
    from infra.settings import load_settings, prepare_prefect

    prepare_prefect()
    from flows.service.automations import FILE, NOTIFY_BLOCK
    from flows.service.setup import set_up_server

    variables: dict[str, Any] = {"working_dir": str(working_dir.absolute())} if working_dir else {}
    settings = load_settings()
    notify_url = settings.notify_url.get_secret_value() if settings.notify_url else ""
    names = set_up_server(kind, settings.gpu_limit, gpu_slots, variables, automations or FILE, notify_url)
    if left_out := names["left_out"]:
        told = f"no block {NOTIFY_BLOCK} on the server, so without {', '.join(left_out)}; set TSUZUKI_NOTIFY_URL"
        click.echo(told, err=True)
    click.echo(json.dumps({"work_pool": kind, "gpu_limit": settings.gpu_limit, **names}))
