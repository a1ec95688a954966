"""The command `tsuzuki save-blocks`: what this environment holds, kept on the Prefect server for every run."""

from __future__ import annotations

import json

import click


@click.command("save-blocks")
def save_blocks() -> None:
    """Keep GITLAB_TOKEN, HF_TOKEN, WANDB_API_KEY as Secret blocks and TSUZUKI_STORE as a Variable, those that are set.

    Runs take from there what their own environment lacks. Prints names, never values.
    """
    from infra.settings import environment_values, prepare_prefect

    prepare_prefect()
    from flows.service import blocks
    from infra.credentials import SECRET_BLOCKS

    click.echo(json.dumps({"saved": blocks.save_blocks(environment_values([*SECRET_BLOCKS, *blocks.STORE]))}))
