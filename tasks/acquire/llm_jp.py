"""The `llm_jp` source: files of a GitLab project by Git LFS, each proved by the sha256 its pointer names.

`<store>/.downloads` holds the objects by sha256, the parts of those under way, and the listings they were named by;
whoever has that folder needs no server.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from data_contracts.errors import StorageError
from data_contracts.manifest import DataSource
from tasks.acquire.config import LLM_JP_URL, CorpusFolder, LlmJpSource
from tasks.acquire.corpus_licences import licence_of
from tasks.acquire.downloading import Meter, Received, fetch, is_there
from tasks.acquire.gitlab import GitLab
from tasks.acquire.listing import LfsObject, Listing, path_of, read_listing, write_listing
from tasks.acquire.patience import in_parallel
from tasks.acquire.reading import SourceFile, split_of
from tasks.acquire.replay import Replay
from tasks.acquire.web import Web
from tasks.workspace import Workspace

COMMIT = re.compile(r"[0-9a-f]{40}")


def download(config: LlmJpSource, workspace: Workspace) -> tuple[list[SourceFile], list[DataSource]]:
    """Every readable file below the `folders` at the resolved commit, and one data set a folder.

    Each file is whole and has the sha256 of its LFS pointer. What `<store>/.downloads` holds is not fetched again: with
    a full commit and all objects there, no request is made. Raises SourceError, and TransientSourceError for what may
    pass when tried again.
    """
    root = workspace.runtime.store / ".downloads"
    root.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    with _origin(config, workspace, stop) as origin:
        commit = config.revision if COMMIT.fullmatch(config.revision) else origin.commit()
        listings = [_listing(origin, root, config, commit, folder.path, workspace) for folder in config.folders]
        _fetch_missing(origin, root, listings, config, workspace, stop)
    files = [
        SourceFile(path=root / item.sha256, name=item.name, split=split_of(item.name), sha256=item.sha256)
        for listing in listings
        for item in listing.files
    ]
    return files, [_data_source(config, commit, folder) for folder in config.folders]


class _Origin(NamedTuple):
    """Where listings and objects come from: a server, or a folder that takes its place."""

    commit: Callable[[], str]
    listing: Callable[[str, str, Callable[[int, int], None]], Listing]
    fetch: Callable[[LfsObject, Path, Received], None]


@contextmanager
def _origin(config: LlmJpSource, workspace: Workspace, stop: threading.Event) -> Iterator[_Origin]:
    if config.base_url.startswith("file:"):
        replay = Replay(config, stop)
        yield _Origin(replay.commit, replay.listing, replay.fetch)
        return
    with Web(config.base_url, workspace.runtime.gitlab_token, config.transfer, stop) as web:
        gitlab = GitLab(web, config)
        yield _Origin(gitlab.commit, gitlab.listing, partial(fetch, web, gitlab.locate))


def _listing(
    origin: _Origin, root: Path, config: LlmJpSource, commit: str, folder: str, workspace: Workspace
) -> Listing:
    """What the folder holds, from the record of an earlier run where there is one."""
    path = path_of(root, config.project, commit, folder)
    if path.is_file():
        return read_listing(path)
    listing = origin.listing(commit, folder, partial(workspace.progress, unit="pointers", folder=folder))
    write_listing(path, listing)
    return listing


def _fetch_missing(
    origin: _Origin,
    root: Path,
    listings: list[Listing],
    config: LlmJpSource,
    workspace: Workspace,
    stop: threading.Event,
) -> None:
    objects = {item.sha256: item for listing in listings for item in listing.files}  # the same content is fetched once
    missing = [item for item in objects.values() if not is_there(root / item.sha256, item)]
    meter = Meter(objects, root)
    if not config.base_url.startswith("file:"):  # a folder's objects are linked where that is possible
        _check_room(root, meter.missing)
    in_parallel(
        lambda item: origin.fetch(item, root / item.sha256, partial(meter.sizes.__setitem__, item.sha256)),
        missing,
        config.transfer.max_connections,
        stop,
        lambda num_done: meter.show(workspace.progress),
    )


def _check_room(root: Path, num_bytes: int) -> None:
    if (free := shutil.disk_usage(root).free) < num_bytes:
        raise StorageError(
            f"`{root}`: {num_bytes:,} bytes are to be fetched, found room for {free:,}",
            hint="free space, or put the store on a larger disk",
        )


def _data_source(config: LlmJpSource, commit: str, folder: CorpusFolder) -> DataSource:
    known = licence_of(folder.path)
    return DataSource(
        name=f"{config.project}/{folder.path}",
        # Not `base_url`: content must not depend on the mirror it came from.
        url=f"{LLM_JP_URL}/{config.project}/-/tree/{commit}/{folder.path}",
        revision=commit,
        licence=known.licence if folder.licence is None else folder.licence,
        attribution=known.attribution if folder.attribution is None else folder.attribution,
    )
