"""The `llm_jp` source against a server of the test's own, with waits as short as tests need them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from data_contracts.manifest import DataSource
from tasks.acquire.config import LlmJpSource, TransferConfig
from tasks.acquire.llm_jp import download
from tasks.acquire.reading import SourceFile
from tasks.runtime import Progress, Runtime
from tasks.workspace import Workspace, no_progress

QUICK: dict[str, Any] = {
    "max_tries": 3,
    "first_delay_seconds": 0.01,
    "max_delay_seconds": 0.3,
    "read_timeout_seconds": 10.0,
}


def source(base_url: str, transfer: dict[str, Any] | None = None, **fields: Any) -> LlmJpSource:
    return LlmJpSource(base_url=base_url, transfer=TransferConfig(**QUICK | (transfer or {})), **fields)


def fetch_corpus(
    store: Path,
    base_url: str,
    *,
    token: str | None = None,
    progress: Progress = no_progress,
    transfer: dict[str, Any] | None = None,
    **fields: Any,
) -> tuple[list[SourceFile], list[DataSource]]:
    runtime = Runtime(store=store, gitlab_token=SecretStr(token) if token else None)
    return download(source(base_url, transfer, **fields), Workspace(store / "work", runtime, progress))


def fetched(store: Path) -> dict[str, bytes]:
    """What lies at final names in the download folder of a store, by name."""
    folder = store / ".downloads"
    return {p.name: p.read_bytes() for p in folder.glob("*") if p.is_file() and p.suffix != ".part"}


def parts(store: Path) -> list[bytes]:
    return [path.read_bytes() for path in (store / ".downloads").glob("*.part")]
