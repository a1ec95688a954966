"""The command `tsuzuki generate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--prompt", "prompts", multiple=True, help="Text to answer; repeatable. [default: three of a demo]")
@click.option("--prompts", "file", type=click.Path(path_type=Path), help="File of prompts: a line each, or *.jsonl.")
@click.option("--base", type=click.Path(path_type=Path), help="Model of an adapter that does not say where it lies.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=512, show_default=True)
@click.option("--temperature", type=click.FloatRange(min=0), default=0.1, show_default=True)
@click.option("--top-k", type=click.IntRange(min=0), default=1, show_default=True, help="0: all tokens; 1: greedy.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of drawn tokens.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--wandb-project", help="Log every answer to WandB. [default: no; with --wandb-mode qwen25-demo-live]")
@click.option("--wandb-mode", type=click.Choice(["online", "offline", "disabled"]), help="[default: online if logged]")
@click.option("--json", "as_json", is_flag=True, help="One JSON line an answer, with its figures.")
def generate(
    model: Path,
    prompts: tuple[str, ...],
    file: Path | None,
    base: Path | None,
    wandb_project: str | None,
    wandb_mode: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Answer prompts with MODEL: a Hugging Face folder, an adapter, a NeMo checkpoint, or such an artifact.

    Answers go to stdout; tokens, tokens/s, latency and load time to stderr.
    """
    from flows import generating
    from infra.settings import prepare_prefect
    from tasks.runtime import WandbConfig

    prepare_prefect()
    source = generating.find_source(model, base)
    asked = [*prompts, *(generating.read_prompts(file) if file else [])] or list(generating.PROMPTS)
    mode = wandb_mode or ("online" if wandb_project else "disabled")
    wandb = WandbConfig(mode=mode, project=wandb_project or generating.WANDB_PROJECT, tags=("japanese", "demo"))
    num_answers = 0

    def show(event: dict[str, Any]) -> None:
        nonlocal num_answers
        num_answers += event["event"] == "answer"
        _show(event, f"[{num_answers}/{len(asked)}]", as_json)

    generating.generate(source, asked, generating.Options(**options), show, wandb)


def _show(event: dict[str, Any], place: str, as_json: bool) -> None:
    if event["event"] == "warning":
        click.echo(f"warning: {event['message']}", err=True)
    elif event["event"] == "loaded":
        click.echo(f"loaded in {event['seconds']:.1f} s: {event['engine']} on {event['device']}", err=True)
    elif event["event"] == "answer":
        told = f"{event['num_tokens']} tokens in {event['seconds']:.2f} s, {event['tokens_per_second']:.1f} tokens/s"
        click.echo(f"{place} {event['prompt']}", err=True)
        values = {name: value for name, value in event.items() if name != "event"}
        click.echo(json.dumps(values, ensure_ascii=False) if as_json else event["answer"])
        click.echo(f"{place} {told}", err=True)
