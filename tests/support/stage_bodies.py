"""Stage bodies for tests of the store: small, real, and importable by other processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import DataError
from data_contracts.manifest import Summary
from tasks.runtime import NOT_IDENTITY
from tasks.workspace import Workspace


class BodyConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = "続き"
    witness: Path = Field(json_schema_extra=NOT_IDENTITY)


def _tell(config: BodyConfig) -> int:
    """Notes each call in a file outside of the store; how many there were."""
    with open(config.witness, "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    return len(config.witness.read_text(encoding="utf-8").splitlines())


def write_text(config: BodyConfig, workspace: Workspace, **inputs: object) -> Summary:
    _tell(config)
    workspace.write_bytes("ledger.parquet", config.text.encode())
    workspace.write_bytes("logs/when.txt", str(time.time()).encode())
    return Summary(counts={"num_characters": len(config.text)})


def fail(config: BodyConfig, workspace: Workspace) -> Summary:
    _tell(config)
    workspace.write_bytes("half", b"x")
    raise DataError("`half`: found half, expected all", hint="there is none")


def fill_disk(config: BodyConfig, workspace: Workspace) -> Summary:
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x" * 4096)
    return Summary()


def slow(config: BodyConfig, workspace: Workspace) -> Summary:
    _tell(config)
    time.sleep(1.0)
    workspace.write_bytes("ledger.parquet", config.text.encode())
    return Summary()


def die_once_then_resume(config: BodyConfig, workspace: Workspace) -> Summary:
    half = workspace.scratch / "half"
    if _tell(config) == 1:
        half.write_text("done so far", encoding="utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    workspace.write_bytes("ledger.parquet", half.read_bytes() if half.exists() else b"from nothing")
    return Summary()
