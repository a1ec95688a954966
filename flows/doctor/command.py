"""The command `tsuzuki doctor`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("recipe", required=False)
@click.option("--config", "file", type=click.Path(path_type=Path), help="YAML laid over the recipe.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change one value; repeatable.")
@click.option("--store", type=click.Path(path_type=Path, file_okay=False), help="Folder of the artifacts.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a finding.")
def doctor(
    recipe: str | None, file: Path | None, assignments: tuple[str, ...], store: Path | None, as_json: bool
) -> None:
    """Say what is missing here for a recipe, or for any: programs, GPUs, disk, tokens; exit 1 if something is."""
    from flows.configuration import load_config
    from flows.doctor.checks import examine
    from flows.engines import find_gpus
    from infra.credentials import Credentials
    from infra.settings import load_settings

    if recipe is None and (file or assignments):
        raise click.UsageError("--config and --set need a RECIPE")
    config = load_config(recipe, file, assignments) if recipe else None
    settings = load_settings()
    if store is not None:
        settings = settings.model_copy(update={"store": store})
    findings = examine(settings, config, Credentials(), find_gpus())
    for finding in findings:
        click.echo(json.dumps(finding._asdict(), ensure_ascii=False) if as_json else _line(finding))
    if any(finding.state == "missing" for finding in findings):
        sys.exit(1)


def _line(finding: Any) -> str:
    told = f"{finding.name:<19} {finding.state:<8} {finding.found}"
    return f"{told}\n{'':<28} hint: {finding.hint}" if finding.hint else told
