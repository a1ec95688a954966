"""The command `tsuzuki backfill`: one recipe over several revisions, values or months."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.options import store_option

if TYPE_CHECKING:
    from flows.backfill.fillings import Filled, Filling


@click.command()
@click.argument("recipe")
@click.option("--over", metavar="KEY=V1,V2,...", help="One run for each value of that key.")
@click.option("--months", metavar="FIRST..LAST", help="One run for each month, as in 2025-01..2025-06.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="YAML laid over the recipe; {month} in it.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change one value; {month} in it.")
@store_option
@click.option("--until", metavar="STAGE", help="Stop each run after that stage.")
@click.option("--parallel", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at a time.")
@click.option("--stop-on-failure", is_flag=True, help="Begin no more after one failed, and end those that run.")
@click.option("--deployment", metavar="NAME", help="As flow runs of that deployment, within its own limits.")
def backfill(
    recipe: str,
    over: str | None,
    months: str | None,
    file: Path | None,
    assignments: tuple[str, ...],
    store: Path | None,
    until: str | None,
    parallel: int,
    stop_on_failure: bool,
    deployment: str | None,
) -> None:
    """Run RECIPE once for each value or month: one JSON line a run, exit 1 if any failed.

    Run it again to finish what is missing; all that is sealed is cached.
    """
    from infra.settings import prepare_prefect

    prepare_prefect()
    from flows.backfill.fillings import fillings
    from flows.running import check_stage_name

    if deployment and (parallel > 1 or stop_on_failure):
        raise click.UsageError("--parallel and --stop-on-failure are for runs on this machine, not for --deployment")
    check_stage_name(until)
    found = fillings(recipe, file, assignments, over, months)
    if deployment:
        from flows.backfill.deployment import fill_on_server

        filled = fill_on_server(deployment, found, store, until)
    else:
        filled = _on_this_machine(found, store, until, parallel, stop_on_failure)
    statuses = [_told(one) for one in filled]
    sys.exit(any(status != "completed" for status in statuses))


def _on_this_machine(
    found: list[Filling], store: Path | None, until: str | None, parallel: int, stop_on_failure: bool
) -> Iterator[Filled]:
    from flows.backfill.processes import Processes
    from flows.running import runtime_of

    runtime = runtime_of(found[0].config, store)
    words = ["--store", str(runtime.store)] + (["--until", until] if until else [])
    grace_seconds = runtime.cancel_grace_seconds + 15
    return Processes(
        words, until or "deliver", parallel, grace_seconds, stop_on_failure, lambda line: click.echo(line, err=True)
    ).run(found)


def _told(filled: Filled) -> str:
    values = {key: value for key, value in asdict(filled).items() if value is not None or key == "delivery"}
    click.echo(json.dumps(values, ensure_ascii=False))
    return filled.status
