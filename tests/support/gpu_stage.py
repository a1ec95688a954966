"""A stage whose device is cuda, run as a Prefect task: python -m gpu_stage STORE NAME...

It needs no GPU: it notes in its ledger how many slots of the limit are taken while it works, 0 without PREFECT_API_URL.
NAME `hang` never ends, `until:FILE` when that file is there.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict

from data_contracts.artifacts import RawCorpus
from data_contracts.manifest import Summary
from tasks.runtime import Runtime
from tasks.stage import Stage
from tasks.workspace import Workspace


class GpuConfig(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    device: Literal["cpu", "cuda"] = "cuda"


def note_slots(config: GpuConfig, workspace: Workspace) -> Summary:
    taken = 0
    if server := os.environ.get("PREFECT_API_URL"):
        url = f"{server}/v2/concurrency_limits/tsuzuki-gpu"
        taken = httpx.get(url).raise_for_status().json()["active_slots"]
    workspace.write_bytes("ledger.parquet", str(taken).encode())
    if config.name != "quick":
        print("working", flush=True)
        while config.name == "hang" or not Path(config.name.removeprefix("until:")).exists():
            time.sleep(0.2)
    return Summary(counts={"num_slots_taken": taken})


def main(store: Path, names: list[str]) -> None:
    from infra.settings import prepare_prefect

    prepare_prefect()
    from prefect import flow

    from flows.service.ephemeral_server import tie_server_to_this_process
    from flows.stage_flow import PrefectRun

    stage = Stage("acquire", RawCorpus, 1, "gpu_stage:note_slots", "Notes the slots that are taken.")

    @flow(name="on the GPU")
    def on_gpu() -> None:
        tie_server_to_this_process()
        for name in names:
            artifact = PrefectRun(Runtime(store=store))(stage, GpuConfig(name=name))
            print(artifact.manifest.summary.counts["num_slots_taken"])

    on_gpu()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
