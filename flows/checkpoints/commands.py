"""The commands `tsuzuki checkpoints list | latest | prune | back-up`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click


@click.group()
def checkpoints() -> None:
    """List, find, prune and back up checkpoints, models and adapters of either backend."""


def folder_argument(command: Callable[..., None]) -> Callable[..., None]:
    """The optional argument FOLDER, the store where it is left out; the command gets its absolute path."""

    @click.argument("folder", required=False, type=click.Path(path_type=Path))
    @wraps(command)
    def with_folder(folder: Path | None, **options: Any) -> None:
        from infra.settings import load_settings

        command((folder or load_settings().store).absolute(), **options)

    return with_folder


@checkpoints.command("list")
@folder_argument
@click.option("--verify", is_flag=True, help="Read what has known hashes again, not sizes alone.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line each.")
def list_all(folder: Path, verify: bool, as_json: bool) -> None:
    """List what lies in a store or any FOLDER, oldest first: kind, step, size, date, whole or what is wrong."""
    from flows.checkpoints.finding import as_text, as_values, find

    found = find(folder, contents=verify)
    told = "\n".join(json.dumps(as_values(one), ensure_ascii=False) for one in found)
    if told or not as_json:
        click.echo(told if as_json else as_text(found))


@checkpoints.command()
@folder_argument
@click.option("--kind", help="Only of that kind, as `list` names it.")
@click.option("--verify", is_flag=True, help="Read what has known hashes again, not sizes alone.")
def latest(folder: Path, kind: str | None, verify: bool) -> None:
    """Print the path of the newest whole one in a store or any FOLDER."""
    from flows.checkpoints.finding import check_kind
    from flows.checkpoints.finding import latest as newest

    check_kind(kind)
    click.echo(str(newest(folder, kind, contents=verify).path))


@checkpoints.command()
@folder_argument
@click.option("--keep-last", type=click.IntRange(min=1), required=True, help="Keep that many of each training.")
@click.option("--keep-every", type=click.IntRange(min=1), help="Keep those whose step is a multiple of it, too.")
@click.option("--yes", is_flag=True, help="Really delete; without it nothing is touched.")
def prune(folder: Path, keep_last: int, keep_every: int | None, yes: bool) -> None:
    """List old and damaged training checkpoints of a store or any FOLDER; delete them with --yes.

    Artifacts stay (`tsuzuki prune` is for those), and so does the newest whole checkpoint of each training, what a
    running training holds, and whatever was not written by a training there.
    """
    from flows.checkpoints.finding import delete, prunable

    total = 0
    for one in prunable(folder, keep_last, keep_every):
        deleted = yes and delete(one)
        total += one.num_bytes * (deleted or not yes)
        told = {"path": str(one.path), "step": one.step, "bytes": one.num_bytes, "deleted": deleted}
        click.echo(json.dumps(told, ensure_ascii=False))
    click.echo(f"{'deleted' if yes else 'would delete'} {total / 1e6:,.1f} MB{'' if yes else '; add --yes'}", err=True)


@checkpoints.command("back-up")
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
def back_up(path: Path, target: Path) -> None:
    """Copy a whole checkpoint to a time-stamped folder below TARGET, verify the copy, and print its path."""
    from flows.checkpoints.backing_up import back_up as copy

    click.echo(str(copy(path, target)))
