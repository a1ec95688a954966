"""What a sealed stage leaves in the Prefect UI: tables, pictures and links, all of them told once, at the end.

A server that is away is waited for with the stage's table alone; whatever else it misses lies in the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from data_contracts.artifacts import Artifact
from data_contracts.errors import ArtifactError
from data_contracts.manifest import Manifest
from flows.runs import lineage
from flows.service.outage import tell
from flows.ui.markdown import cell, figure_rows, lineage_rows, picture_lines, stage_view, told_in_a_line
from flows.ui.pictures import funnel_picture, score_pictures, training_pictures
from tasks.deliver.funnel import funnel, reconciles
from tasks.deliver.lineage import Lineage, Step
from tasks.stage import Stage
from tasks.stages import BINARIZE, DELIVER, FILTER, LORA, PRETRAIN
from tasks.store import Store
from tasks.training.tracking import wandb_address

log = logging.getLogger(__name__)
TABLE_SECONDS = 240.0
"""So long is a server waited for that is away when a stage is sealed; the next stage needs it anyway."""
PICTURES: dict[str, Callable[[Path], dict[str, str]]] = {
    FILTER.name: score_pictures,
    PRETRAIN.name: training_pictures,
    LORA.name: training_pictures,
}
FUNNEL_ROLES = {"raw": "acquire", "filtered": "filter", "unique": "dedup", "corpus": "split", "tokens": "binarize"}
"""Which stage makes what the funnel of documents goes through."""


def artifact_key(stage: Stage, what: str = "") -> str:
    """The name of an artifact in the UI, the same in every run, so that its history is there."""
    return "-".join(filter(None, ("tsuzuki", stage.name.replace("_", "-"), what)))


def show_stage(stage: Stage, artifact: Artifact, store: Store, status: str) -> None:
    """For a stage that was built: its figures, and what can be seen of it; funnel and lineage where they are whole."""
    manifest = artifact.manifest
    _table(artifact_key(stage), figure_rows(manifest), told_in_a_line(stage, manifest, artifact.path, status))
    pictures = PICTURES[stage.name](artifact.path) if stage.name in PICTURES else {}
    _markdown(artifact_key(stage, "view"), stage_view(manifest, pictures), stage.summary)
    if stage.name == BINARIZE.name:
        _show_funnel(_lineage(store, artifact.path))
    if stage.name == DELIVER.name:
        rows = lineage_rows(manifest for _, manifest in _lineage(store, artifact.path))
        _table("tsuzuki-lineage", rows, "How the delivery came about: every stage, what it was made from, its figures.")


def show_report(artifact: Artifact, reports_url: str | None) -> None:
    """A link to the delivery's report where a server shows it, else the words where it lies."""
    report = artifact.path / "report.html"
    said = "The report of this delivery: models, training, documents, proofs, lineage."
    if reports_url:
        address = f"{reports_url.rstrip('/')}/{artifact.path.name}/report.html"
        link = partial(create_link_artifact, address, "Open the report", key="tsuzuki-report", description=said)
        tell("the link to the report", link)
    else:
        _markdown("tsuzuki-report", f"# Report\n\n{cell(str(report), 400)}", said)


def show_wandb(stage: Stage, folder: Path) -> bool:
    """A link to the WandB run that a training's folder names; whether it names one."""
    address = wandb_address(folder)
    if address:
        key, said = artifact_key(stage, "wandb"), f"The curves of {stage.name} at Weights & Biases."
        tell("the link to WandB", partial(create_link_artifact, address, "Open in WandB", key=key, description=said))
    return address is not None


def _lineage(store: Store, path: Path) -> list[tuple[Path, Manifest]]:
    try:
        return lineage(store, path)
    except ArtifactError as error:
        # What an artifact was made from may have been pruned since; that fails no stage.
        log.warning("the lineage is not shown: %s", error.message)
        return []


def _show_funnel(found: list[tuple[Path, Manifest]]) -> None:
    by_stage = {manifest.stage: (path, manifest) for path, manifest in found}
    if not all(stage in by_stage for stage in FUNNEL_ROLES.values()):
        return  # a stage of a test, or a corpus made in another way
    steps = {}
    for role, stage in FUNNEL_ROLES.items():
        path, manifest = by_stage[stage]
        steps[role] = Step(role, Artifact(path=path, digest=manifest.digest), manifest)
    parts = funnel(Lineage(steps))
    said = "Every document accounted for" if reconciles(parts) else "The sums of documents do not agree"
    _markdown("tsuzuki-funnel", "\n".join(picture_lines(funnel_picture(parts))), f"{said}, from source to tokens.")


def _table(key: str, rows: list[dict[str, str]], description: str) -> None:
    tell(f"the table {key}", partial(create_table_artifact, rows, key=key, description=description), TABLE_SECONDS)


def _markdown(key: str, markdown: str, description: str) -> None:
    tell(key, partial(create_markdown_artifact, markdown, key=key, description=description))
