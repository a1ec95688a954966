"""The command line: `tsuzuki run | plan | show | try-filters | inspect | explain | verify | prune | ...`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from data_contracts.errors import TsuzukiError
from flows.options import store_option

ELSEWHERE = {
    "backfill": "flows.backfill.command",
    "checkpoints": "flows.checkpoints.commands",
    "doctor": "flows.doctor.command",
    "executor": "flows.executor_command",
    "generate": "flows.generate_command",
    "save-blocks": "flows.service.blocks_command",
    "serve": "flows.service.command",
    "setup": "flows.service.command",
}
"""Commands by name that stand, under that name, in a module of their own."""


class Commands(click.Group):
    """Turns our errors into one message without a traceback, and their exit code; finds the commands of ELSEWHERE."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in ELSEWHERE:
            return getattr(import_module(ELSEWHERE[cmd_name]), cmd_name.replace("-", "_"))
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TsuzukiError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("error: interrupted\nhint: run the same command again; it continues", err=True)
            ctx.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tsuzuki")
def main() -> None:
    """From a Japanese corpus and a base LLM to a continually pretrained, LoRA-tuned, verified Hugging Face model."""


def config_options(command: Callable[..., None]) -> Callable[..., None]:
    """The argument RECIPE and the options that change it; the command gets the validated config."""

    @click.argument("recipe")
    @click.option("--config", "file", type=click.Path(path_type=Path), help="YAML laid over the recipe.")
    @click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change one value; repeatable.")
    @wraps(command)
    def with_config(recipe: str, file: Path | None, assignments: tuple[str, ...], **options: Any) -> None:
        from flows.configuration import load_config

        command(load_config(recipe, file, assignments), **options)

    return with_config


@main.command()
@config_options
@store_option
@click.option("--until", metavar="STAGE", help="Stop after that stage.")
@click.option("--from", "rebuild_from", metavar="STAGE", help="Rebuild that stage and what depends on it.")
def run(config: Any, store: Path | None, until: str | None, rebuild_from: str | None) -> None:
    """Run a recipe: one JSON line per stage on stdout, progress on stderr."""
    from infra.settings import prepare_prefect

    prepare_prefect()
    from flows.console import ConsoleReporter
    from flows.pipeline_flow import pipeline
    from flows.running import check_stage_name
    from flows.runs import reporter
    from flows.service.prefect_home import room_in_prefect_home

    check_stage_name(until)
    check_stage_name(rebuild_from)
    with room_in_prefect_home(), ConsoleReporter() as console:
        reporter.set(console)
        pipeline(config, store=store, until=until, rebuild_from=rebuild_from)


@main.command()
@config_options
@store_option
@click.option("--until", metavar="STAGE", help="Stop after that stage.")
@click.option("--from", "rebuild_from", metavar="STAGE", help="As if that stage were rebuilt.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per stage.")
def plan(config: Any, store: Path | None, until: str | None, rebuild_from: str | None, as_json: bool) -> None:
    """Say for each stage whether it would be taken from the store, and if not, why."""
    from infra.settings import prepare_prefect

    prepare_prefect()
    from contextlib import suppress

    from flows.pipeline_flow import pipeline_story
    from flows.plan import Plan
    from flows.running import check_stage_name, runtime_of
    from flows.runs import Stopped
    from tasks.store import Store

    check_stage_name(until)
    check_stage_name(rebuild_from)
    planned = Plan(Store(runtime_of(config, store).store), rebuild_from=rebuild_from, until=until)
    with suppress(Stopped):
        pipeline_story(config, planned)
    for stage in planned.stages:
        if as_json:
            click.echo(json.dumps({"stage": stage.stage, "hit": stage.hit, "reasons": stage.reasons}))
        else:
            click.echo(f"{stage.stage:<16} {'hit' if stage.hit else 'miss: ' + '; '.join(stage.reasons)}")


@main.command()
@config_options
def show(config: Any) -> None:
    """Print the resolved config as YAML that `--config` accepts."""
    import yaml

    values = config.model_dump(mode="json")
    click.echo(yaml.safe_dump(values, allow_unicode=True, sort_keys=False, width=120), nl=False)


@main.command()
def recipes() -> None:
    """List the recipes."""
    from flows.recipes import RECIPES

    for name, recipe in RECIPES.items():
        click.echo(f"{name:<26} {(recipe.__doc__ or '').strip()}")


@main.command()
def stages() -> None:
    """List the stages with their contracts and revisions, and after how many seconds a lost worker is tried again."""
    from tasks.stages import ALL_STAGES

    click.echo(f"{'stage':<16} {'revision':<8} {'makes':<18} {'tried again':<14} what")
    for stage in ALL_STAGES.values():
        contract = f"{stage.output.kind} v{stage.output.version}"
        delays = ", ".join(f"{seconds:g}" for seconds in stage.retry_delays_seconds[: stage.retries])
        click.echo(f"{stage.name:<16} {stage.revision:<8} {contract:<18} {delays or 'never':<14} {stage.summary}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def engines(as_json: bool) -> None:
    """List the engines: which are installed, what each runs, how to install the others; and the GPUs."""
    from flows.engines import as_text, as_values, find_engines, find_gpus
    from infra.settings import load_settings

    gpus = find_gpus()
    found = find_engines(load_settings(), gpus)
    click.echo(json.dumps(as_values(found, gpus)) if as_json else as_text(found, gpus))


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The manifest as it is.")
@click.option(
    "--ledger", is_flag=True, help="Every document, character and token of an artifact or store; exit 1 on a gap."
)
def inspect(path: Path, as_json: bool, ledger: bool) -> None:
    """Show an artifact: its manifest, and its lineage back to the source; or its accounts."""
    if ledger:
        from dataclasses import asdict

        from flows.inspecting import accounting

        accounts = accounting.accounts(path.absolute())
        told = "\n".join(json.dumps(asdict(account)) for account in accounts)
        click.echo(told if as_json else accounting.as_text(accounts))
        sys.exit(any(account.problems for account in accounts))
    from data_contracts.manifest import read_manifest
    from flows.inspecting.inspection import describe

    click.echo(read_manifest(path).model_dump_json(indent=1) if as_json else describe(path.absolute()))


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--document", required=True, metavar="ID", help="Id of the document.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line a stage.")
def explain(path: Path, document: str, as_json: bool) -> None:
    """Tell the life of one document in an artifact or store: where it came from, what became of it, and why."""
    from flows.inspecting import explaining

    events = explaining.life_of(path.absolute(), document)
    told = "\n".join(json.dumps(event, ensure_ascii=False) for event in events)
    click.echo(told if as_json else explaining.as_text(events))


@main.command("try-filters")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--recipe", default="demo", show_default=True, help="Recipe whose filters are tried.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="YAML laid over the recipe.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change one value, as in filters.preset=web."
)
@click.option("--documents", type=click.IntRange(min=1), default=10_000, show_default=True, help="Documents to read.")
@click.option(
    "--examples", type=click.IntRange(min=0), default=2, show_default=True, help="Per step and side of a bound."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON line a step.")
def try_filters(
    path: Path,
    recipe: str,
    file: Path | None,
    assignments: tuple[str, ...],
    documents: int,
    examples: int,
    as_json: bool,
) -> None:
    """Show what a cascade would do to a sample: what goes, and the documents nearest to each bound."""
    from flows import trying_filters
    from flows.configuration import load_config

    config = load_config(recipe, file, assignments).filters
    num_documents, trials = trying_filters.try_filters(config, path, documents, examples)
    told = "\n".join(json.dumps(trial._asdict(), ensure_ascii=False) for trial in trials)
    click.echo(told if as_json else trying_filters.as_text(num_documents, trials))


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--repair", is_flag=True, help="Build what is damaged again, inputs first; exit 1 if any stays damaged.")
def verify(path: Path, repair: bool) -> None:
    """Read every file of an artifact, or of a whole store, again and compare hashes; exit 1 on damage."""
    from flows.console import ConsoleReporter
    from flows.inspecting.inspection import verify_path
    from flows.inspecting.repair import Outcome, repair_path
    from flows.runs import reporter

    reporter.set(ConsoleReporter())
    path = path.absolute()
    found = repair_path(path) if repair else (Outcome(folder, damage) for folder, damage in verify_path(path))
    outcomes = []
    for outcome in found:
        outcomes.append(outcome)
        click.echo(json.dumps(outcome.as_values(), ensure_ascii=False))
    if unsettled := sum(not outcome.is_settled for outcome in outcomes):
        hint = "each line says why and what to do" if repair else f"`tsuzuki verify {path} --repair` builds them again"
        click.echo(f"error: {unsettled} damaged\nhint: {hint}", err=True)
        sys.exit(1)


@main.command()
@store_option
@click.option("--keep-last", type=click.IntRange(min=1), help="Keep that many newest deliveries. [default: all]")
@click.option("--yes", is_flag=True, help="Really delete; without it nothing is touched.")
def prune(store: Path | None, keep_last: int | None, yes: bool) -> None:
    """List what no kept delivery needs; delete it with --yes."""
    from flows.inspecting.inspection import prunable
    from infra.settings import load_settings
    from tasks.store import Store

    root = Store((store or load_settings().store).absolute())
    total = 0
    for folder, size in prunable(root, keep_last):
        total += size
        click.echo(json.dumps({"path": str(folder), "bytes": size, "deleted": yes}))
        if yes:
            root.discard(folder)
    click.echo(f"{'deleted' if yes else 'would delete'} {total / 1e6:,.1f} MB{'' if yes else '; add --yes'}", err=True)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="Value of ${NAME}; repeatable.")
@click.option("--ignore-unknown", is_flag=True, help="Drop parameters that a filter does not have.")
def import_uzushio(file: Path, variables: tuple[str, ...], ignore_unknown: bool) -> None:
    """Print a filter file of Uzushio (HOCON) as YAML that `--config` accepts."""
    from flows.importing_uzushio import filters_section

    click.echo(filters_section(file, variables, ignore_unknown), nl=False)


if __name__ == "__main__":
    main()
