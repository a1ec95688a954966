"""The micro recipe by plain function calls: no Prefect and no command line, which cost more than its corpus half."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

from command_line import MICRO
from flows.configuration import load_config
from flows.runs import Run, Stopped
from tasks.runtime import Runtime


def run_plainly(
    store: Path, until: str = "deliver", assignments: tuple[str, ...] = (), rebuild_from: str | None = None
) -> list[str]:
    """The status of each stage, up to `until`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of prefect, imported where the stories stand
        from flows.pipeline_flow import pipeline_story
    statuses: list[str] = []

    class Telling(Run):
        def build(self, request, rebuild):
            built = super().build(request, rebuild)
            statuses.append(built.status)
            return built

    with suppress(Stopped):
        pipeline_story(load_config("demo", MICRO, assignments), Telling(Runtime(store=store), rebuild_from, until))
    return statuses
