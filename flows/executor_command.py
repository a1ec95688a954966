"""The command `tsuzuki executor`: how the processes of a NeMo training are started, and what would be submitted."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import click

from data_contracts import errors
from data_contracts.errors import MissingPackage, WorkerError

DRY_RUN = "tasks.training.launching:dry_run_of"
DRY_RUN_INLINE = "nothing is submitted: the worker itself trains, in one process on one device"


@click.command()
@click.option("--dry-run", is_flag=True, help="Print what would be submitted for a training in the store.")
def executor(dry_run: bool) -> None:
    """Print the block of TSUZUKI_EXECUTOR with every value; with --dry-run the command or script it leads to."""
    import yaml

    from infra.settings import load_settings
    from tasks.training.executors import executor_of

    settings = load_settings()
    block = executor_of(settings.executor)
    values = block.model_dump(mode="json")
    job_path = settings.store.absolute() / ".partial" / "pretrain-KEY" / ".scratch" / "JOB.json"
    if not dry_run:
        told = yaml.safe_dump(values, allow_unicode=True, sort_keys=False, width=120)
    elif block.kind == "inline":
        told = f"{DRY_RUN_INLINE}\n"
    else:
        told = _dry_run(settings.nemo_python, {"job_path": str(job_path), "executor": values})
    click.echo(told, nl=False)


def _dry_run(python: Path | None, arguments: dict[str, Any]) -> str:
    """What NeMo-Run would submit, as it says in its own environment."""
    if python is None or not python.is_file():
        raise MissingPackage(
            f"`TSUZUKI_NEMO_PYTHON`: found {python or 'nothing'}, expected the interpreter that has NeMo-Run",
            hint="make nemo-env, and set the variable as it says",
        )
    from tasks.job import PROJECT_ROOT

    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps({"function": DRY_RUN, "arguments": arguments}), encoding="utf-8")
        # The worker ends when its standard input does.
        process = subprocess.Popen(
            [python, "-m", "tasks.worker", job],
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None and process.stderr is not None
            told, log = process.stdout.readline(), process.stderr.read()
    event = json.loads(told) if told else {"event": "error", "type": "", "message": log.strip(), "hint": ""}
    if event["event"] == "done":
        return event["result"]
    raise getattr(errors, event["type"], WorkerError)(event["message"], hint=event["hint"])
