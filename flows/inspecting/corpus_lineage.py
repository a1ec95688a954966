"""The stages of the corpus half that one artifact, or the newest of a store, was made by."""

from __future__ import annotations

from pathlib import Path

from data_contracts.errors import MissingArtifact
from data_contracts.manifest import MANIFEST_NAME, Manifest
from flows.runs import lineage
from tasks.store import Store

CORPUS_STAGES = ("acquire", "filter", "dedup", "split", "binarize")


def corpus_lineage(path: Path) -> dict[str, tuple[Path, Manifest]]:
    """Folder and manifest of each stage of the corpus half behind an artifact, by stage, in order.

    path: an artifact, or a store, of which the newest artifact of the latest stage of that half is taken. Raises
    MissingArtifact where neither lies.
    """
    if not (path / MANIFEST_NAME).is_file():
        path = _newest(path)
    found = {manifest.stage: (folder, manifest) for folder, manifest in lineage(Store(path.parent.parent), path)}
    stages = {stage: found[stage] for stage in CORPUS_STAGES if stage in found}
    if not stages:
        raise MissingArtifact(
            f"`{path}`: made from no corpus, expected an artifact with documents behind it",
            hint=f"name an artifact of {', '.join(CORPUS_STAGES)}, or what was made from one",
        )
    return stages


def _newest(store: Path) -> Path:
    for stage in reversed(CORPUS_STAGES):
        if found := list(Store(store).manifests(stage)):
            return found[-1][0]
    raise MissingArtifact(
        f"`{store}`: neither an artifact nor a store with one of {', '.join(CORPUS_STAGES)}",
        hint="name the `--store` folder of a run, or a `path` that it printed",
    )
