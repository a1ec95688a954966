"""What a backfill runs: one recipe over several values of a key or over months, every config valid before the first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_contracts.errors import UsageError
from flows.configuration import load_config
from flows.recipes import PipelineConfig

MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
Status = Literal["completed", "failed", "stopped", "skipped"]
"""`stopped`: ended together with the backfill. `skipped`: never begun."""


@dataclass(frozen=True)
class Filling:
    """One run of a backfill: the value or month that it stands for, and its config."""

    value: str
    config: PipelineConfig


@dataclass(frozen=True)
class Filled:
    """What became of one run. `delivery`: the folder of its delivery. `flow_run`: its id on a Prefect server."""

    value: str
    status: Status
    seconds: float
    delivery: str | None = None
    flow_run: str | None = None
    error: str | None = None


def fillings(
    recipe: str, file: Path | None, assignments: tuple[str, ...], over: str | None, months: str | None
) -> list[Filling]:
    """The runs in the order given. over: `KEY=V1,V2,...`; months: `2025-01..2025-06`, both ends included.

    Raises UsageError unless there is exactly one of both, and where two runs would be the same; ConfigError for the
    first config that the tree refuses.
    """
    if over is not None and months is None:
        key, values = _values_of(over)
        found = [Filling(value, load_config(recipe, file, (*assignments, f"{key}={value}"))) for value in values]
    elif months is not None and over is None:
        found = [Filling(month, load_config(recipe, file, assignments, month)) for month in months_of(months)]
    else:
        raise UsageError("`backfill`: expected one of --over and --months", hint="see `tsuzuki backfill --help`")
    _check_differ(found)
    return found


def months_of(span: str) -> list[str]:
    """Months from the first to the last of `2025-01..2025-06`. Raises UsageError for anything else."""
    first, separator, last = span.partition("..")
    ends = [MONTH.fullmatch(end) for end in (first, last if separator else first)]
    if not all(ends):
        raise UsageError(f"`--months {span}`: expected months as in 2025-01..2025-06")
    begin, end = (int(found[1]) * 12 + int(found[2]) - 1 for found in ends if found)
    if begin > end:
        raise UsageError(f"`--months {span}`: found the last month before the first")
    return [f"{month // 12:04}-{month % 12 + 1:02}" for month in range(begin, end + 1)]


def _values_of(over: str) -> tuple[str, list[str]]:
    key, separator, text = over.partition("=")
    values = [value.strip() for value in text.split(",")]
    if not separator or not key or not all(values):
        raise UsageError(f"`--over {over}`: expected KEY=V1,V2,... as in `--over source.revision=v1,v2`")
    return key, values


def _check_differ(found: list[Filling]) -> None:
    for index, filling in enumerate(found):
        for other in found[:index]:
            if other.config == filling.config:
                raise UsageError(
                    f"`{other.value}` and `{filling.value}`: found the same config for both",
                    hint="with --months, some --set or value of --config must hold {month}",
                )
