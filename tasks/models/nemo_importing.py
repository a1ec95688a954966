"""Stage `nemo_checkpoint`: the base model in NeMo's format, with the proof that it holds the same weights."""

from __future__ import annotations

from data_contracts.artifacts import HfModel
from data_contracts.manifest import Summary
from tasks.job import Event, run_worker
from tasks.models.config import NemoImportConfig
from tasks.training.running import interpreter_of
from tasks.workspace import Workspace

STEPS = ("import", "prove")


def import_nemo(config: NemoImportConfig, workspace: Workspace, base: HfModel) -> Summary:
    """The base model as a NeMo checkpoint, made in NeMo's interpreter and converted back to compare every bit.

    Raises MissingPackage without that interpreter, ModelError for a model that NeMo cannot take, StorageError for too
    little disk, and UnprovenWeightsError for a tensor that did not come back.
    """

    def show(event: Event) -> None:
        workspace.progress(STEPS.index(event["step"]), len(STEPS), "steps")

    arguments = {
        "config": config.model_dump(mode="json"),
        "model": str(base.path.resolve()),
        "folder": str(workspace.path.resolve()),
    }
    python = interpreter_of("nemo", workspace.runtime)
    result = run_worker("tasks.models.nemo_import:import_model", arguments, workspace, show, python=python)
    workspace.progress(len(STEPS), len(STEPS), "steps")
    return Summary(counts=result["counts"], proofs=result["proofs"])
