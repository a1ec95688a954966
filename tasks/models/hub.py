"""Models from the Hugging Face hub, through its own client: cache, resume and HF_TOKEN are that library's work."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from data_contracts.errors import SourceError, TransientSourceError
from data_contracts.files import FileEntry
from tasks.models.config import HUB_SOURCE
from tasks.models.folders import FOREIGN_PATTERNS, MODEL_PATTERNS

SHA256 = re.compile("[0-9a-f]{64}")
RETRYABLE_STATUS = {408, 429, 500, 502, 503, 504}
TOKEN_HINT = "check the name; a private or gated model needs HF_TOKEN in the environment and its licence accepted"  # noqa: S105


def fetch_snapshot(source: str, endpoint: str | None = None) -> tuple[Path, str]:
    """Folder in the hub's cache and commit of `hf://org/name[@revision]`; only files that a model needs are fetched.

    Raises SourceError for what will not change by itself, TransientSourceError for the network and the server.
    """
    match = HUB_SOURCE.match(source)
    assert match is not None, source
    try:
        folder = snapshot_download(
            match["name"],
            revision=match["revision"],
            endpoint=endpoint,
            allow_patterns=list(MODEL_PATTERNS),
            ignore_patterns=list(FOREIGN_PATTERNS),
        )
    except (OSError, httpx.HTTPError) as error:
        raise _explained(source, match["revision"], error) from error
    return Path(folder), Path(folder).name


def check_hashes(folder: Path, entries: list[FileEntry]) -> None:
    """Raises SourceError for a copied file that is not what the hub promised: its Git LFS id is its sha256.

    The hub's client checks sizes only. Its cache names the blob of a large file by that id.
    """
    for entry in entries:
        blob = (folder / entry.name).resolve()
        if SHA256.fullmatch(blob.name) and blob.name != entry.sha256:
            raise SourceError(
                f"`{entry.name}`: found sha256 {entry.sha256[:12]}…, the hub promised {blob.name[:12]}…",
                hint=f"delete `{blob}` and run again; the file is downloaded anew",
            )


def _explained(source: str, revision: str | None, error: Exception) -> Exception:
    """Our error for one of the client's; a full disk and the like pass as they are."""
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, HfHubHTTPError):
        error = error.__cause__  # the hub did answer; the client looked into its cache after that
    if isinstance(error, RevisionNotFoundError):
        return SourceError(f"`{source}`: no revision `{revision}`", hint="name a branch, tag or commit of that model")
    if isinstance(error, GatedRepoError | RepositoryNotFoundError):
        return SourceError(f"`{source}`: not found, or closed without a token", hint=TOKEN_HINT)
    if isinstance(error, OfflineModeIsEnabled) or (
        constants.HF_HUB_OFFLINE and isinstance(error, LocalEntryNotFoundError)
    ):
        return SourceError(
            f"`{source}`: not in the local cache, and HF_HUB_OFFLINE forbids the network",
            hint="unset HF_HUB_OFFLINE, fill the cache on a machine with a network, or name a local folder",
        )
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        message = f"`{source}`: the hub answered with status {error.response.status_code}"
        if error.response.status_code in RETRYABLE_STATUS:
            return TransientSourceError(message, hint="run again later; finished files are kept")
        return SourceError(message, hint=TOKEN_HINT)
    if isinstance(error, LocalEntryNotFoundError | httpx.HTTPError | ConnectionError | TimeoutError):
        return TransientSourceError(
            f"`{source}`: the hub could not be reached ({_root(error)}), and it is not in the local cache",
            hint="check the network and run again (finished files are kept), or name a local folder",
        )
    return error


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".splitlines()[0]
