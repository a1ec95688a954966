"""Stage `base_model`: brings the model to continue into the store, with the proof that its weights are loaded."""

from __future__ import annotations

from data_contracts.files import FileEntry, digest_of_files, hash_file
from data_contracts.manifest import DataSource, Summary
from tasks.job import Event, run_worker
from tasks.models.config import HUB_SOURCE, ModelConfig
from tasks.models.folders import model_files
from tasks.workspace import Workspace

STEPS = ("bring", "prove")


def outside_digests(config: ModelConfig) -> dict[str, str]:
    """Digest of a local folder's model files by name and content; nothing for `tiny` and the hub.

    A hub model is identified by its name and revision; the commit that a branch resolved to is in the manifest.
    """
    if config.path is None:
        return {}
    folder = config.path.expanduser()
    return {"model_files": digest_of_files(hash_file(folder / name, name) for name in model_files(folder))}


def import_base(config: ModelConfig, workspace: Workspace) -> Summary:
    """The base model as a Hugging Face folder, its weights proved.

    Raises SourceError, TransientSourceError, ModelError or UnprovenWeightsError.
    """

    def show(event: Event) -> None:
        workspace.progress(STEPS.index(event["step"]), len(STEPS), "steps")

    arguments = {"config": config.model_dump(mode="json"), "folder": str(workspace.path.resolve())}
    if config.path is not None:
        arguments["source_folder"] = str(config.path.expanduser().resolve())
    result = run_worker("tasks.models.base_worker:bring_and_prove", arguments, workspace, show)
    for entry in result["files"]:
        workspace.add(FileEntry.model_validate(entry))
    workspace.progress(len(STEPS), len(STEPS), "steps")
    return Summary(
        counts=result["counts"], proofs=result["proofs"], sources=[_licence(config, result["proofs"].get("commit", ""))]
    )


def _licence(config: ModelConfig, commit: str) -> DataSource:
    if config.source == "tiny":
        return DataSource(
            name="tsuzuki tiny model (random weights)",
            licence=config.licence or "Apache-2.0",
            attribution=config.attribution,
        )
    hub = HUB_SOURCE.match(config.source)
    name = hub["name"] if hub else (config.path.name if config.path else config.source)
    return DataSource(
        name=name,
        url=f"https://huggingface.co/{name}" if hub else "",
        revision=commit,
        licence=config.licence or "unknown",
        attribution=config.attribution,
    )
