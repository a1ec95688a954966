"""Looking at what a store holds: lineage, damage, and what nobody needs any more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from data_contracts.artifacts import verify_files
from data_contracts.errors import ArtifactError, MissingArtifact, UsageError
from data_contracts.manifest import MANIFEST_NAME, Manifest, read_manifest
from flows.runs import lineage
from tasks.storage_faults import storage_errors
from tasks.store import Store

KEY = re.compile("[0-9a-f]{64}")


def describe(path: Path) -> str:
    """A sealed artifact in words: what it is, its counts, and everything it was made from."""
    manifest = read_manifest(path)
    store = Store(path.parent.parent)
    lines = [
        f"{manifest.kind} v{manifest.contract_version}, made by {manifest.stage} (revision {manifest.revision})",
        f"key     {manifest.key}",
        f"digest  {manifest.digest}",
        f"sealed  {manifest.created_at:%Y-%m-%d %H:%M:%S} UTC after {manifest.seconds:.1f} s",
        f"files   {len(manifest.files)}, {sum(f.bytes for f in manifest.files):,} bytes",
        "counts",
        *(f"  {name:<34} {value:>14,}" for name, value in manifest.summary.counts.items()),
        "lineage, nearest first",
    ]
    for folder, ancestor in lineage(store, path):
        made_from = ", ".join(f"{name}={r.stage or 'outside'}:{r.digest[:12]}" for name, r in ancestor.inputs.items())
        lines.append(
            f"  {ancestor.stage:<13} {folder.name[:12]} -> {ancestor.digest[:12]}  from {made_from or 'config'}"
        )
    lines.append("sources")
    lines += [f"  {s.name} {s.revision} ({s.licence}) {s.attribution}".rstrip() for s in manifest.sources]
    return "\n".join(lines)


def verify_path(path: Path) -> Iterator[tuple[Path, str | None]]:
    """(folder, damage or None) of an artifact, or of each in a store. Raises MissingArtifact where there is none."""
    folders = [path] if (path / MANIFEST_NAME).is_file() else _artifacts(path)
    if not folders:
        raise MissingArtifact(f"`{path}`: no artifact there, expected one or a store", hint="name the `--store` folder")
    for folder in folders:
        yield folder, damage_of(folder)


def _artifacts(store: Path) -> list[Path]:
    """What is or was one: a folder with a manifest, or with the name of a key."""
    found = [path for path in store.glob("[!.]*/*/") if KEY.fullmatch(path.name) or (path / MANIFEST_NAME).is_file()]
    return sorted(found)


def damage_of(folder: Path) -> str | None:
    """The first damage that reading every file of an artifact again finds, None where it is whole.

    Raises StorageError for what may not be read.
    """
    try:
        with storage_errors(folder):
            verify_files(folder)
    except ArtifactError as error:
        return error.message
    except OSError as error:  # a bad sector, or something else than a file
        return f"`{error.filename or folder}`: {error.strerror or error}, expected a file that can be read"
    return None


def prunable(store: Store, keep_last: int | None = None) -> list[tuple[Path, int]]:
    """(folder, bytes) of each artifact that is in the lineage of no kept delivery.

    keep_last: how many of the newest deliveries are kept; None keeps all.
    Raises UsageError if there is no delivery, since then everything would go.
    """
    everything = list(store.manifests())
    deliveries = [path for path, manifest in everything if manifest.stage == "deliver"]
    kept = deliveries if keep_last is None else deliveries[-keep_last:]
    if not kept:
        raise UsageError(
            f"`{store.root}`: holds no delivery, so nothing says what is needed",
            hint="finish a run first, or delete the folder yourself",
        )
    needed = {path for delivery in kept for path, _ in lineage(store, delivery)}
    return [(path, _size(manifest)) for path, manifest in everything if path not in needed]


def _size(manifest: Manifest) -> int:
    return sum(entry.bytes for entry in manifest.files)
