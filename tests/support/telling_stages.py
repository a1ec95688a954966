"""Stages that seal, go on, train and fail, run as Prefect tasks: python -m telling_stages STORE NAME..."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from data_contracts.artifacts import RawCorpus
from data_contracts.errors import DataError, TransientSourceError
from data_contracts.manifest import DataSource, Summary
from tasks.runtime import Runtime
from tasks.stage import Request, Stage
from tasks.workspace import Workspace

LABELS = {"tsuzuki.recipe": "demo", "tsuzuki.source": "local"}


class TellingConfig(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str


def body(config: TellingConfig, workspace: Workspace) -> Summary:
    workspace.write_bytes("ledger.parquet", config.name.encode())
    match config.name:
        case "trains":
            for step in range(1, 200):
                workspace.progress(step, 200, unit="steps", loss=3.5, tokens_consumed=step * 512, secret="hidden")
        case "fails":
            token = "glpat-ひみつ"
            raise DataError(f"`年齢.jsonl`: {token} of https://taro:pass@example.com " + "嘘" * 5000, hint="数え直す")
        case "fails-twice":
            raise TransientSourceError("`src`: the line was cut", hint="wait")
    return Summary(counts={"num_documents": 7}, sources=[DataSource(name="青空文庫")])


def stage_of(name: str) -> Stage:
    waits = (0.0,)
    retries = 1 if name == "fails-twice" else 0
    return Stage(
        "acquire", RawCorpus, 1, "telling_stages:body", "Tells.",
        resumable=name == "goes-on", retries=retries, retry_delays_seconds=waits,
    )  # fmt: skip


def run_stages(store: Path, names: list[str]) -> None:
    from prefect import flow, tags

    from flows.stage_flow import PrefectRun

    @flow(name="telling", flow_run_name="{name}")
    def telling(name: str) -> None:
        run = PrefectRun(Runtime(store=store), title="青空 × tiny", labels=LABELS)
        if name == "goes-on":
            request = Request.of(stage_of(name), TellingConfig(name=name), {})
            (run.store.partial(request) / ".scratch").mkdir(parents=True)
        run(stage_of(name), TellingConfig(name=name))

    with tags("tsuzuki"):
        for name in names:
            telling(name, return_state=True)


def tell_nobody() -> None:
    """STORE silence: prints how long a thousand events took in all, and the slowest, where the server is not there."""
    from flows import events

    events.PROGRESS_SECONDS = 0.0
    told = events.StageEvents(Request.of(stage_of("trains"), TellingConfig(name="trains"), {}), "題", LABELS)
    told.progress(0, 1000, "steps", {"loss": 1.0})
    slowest, begun = 0.0, time.monotonic()
    for step in range(1000):
        started = time.monotonic()
        told.progress(step, 1000, "steps", {"loss": 1.0})
        slowest = max(slowest, time.monotonic() - started)
    print(time.monotonic() - begun, slowest, flush=True)


if __name__ == "__main__":
    if sys.argv[2] == "silence":
        import os

        tell_nobody()
        os._exit(0)
    run_stages(Path(sys.argv[1]), sys.argv[2:])
