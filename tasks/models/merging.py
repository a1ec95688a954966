"""Stage `export`: merges the adapter into the continued model and proves that nothing else changed."""

from __future__ import annotations

from data_contracts.artifacts import Adapter, HfModel
from data_contracts.manifest import Summary
from tasks.job import Event, run_worker
from tasks.models.config import ExportConfig
from tasks.workspace import Workspace

STEPS = ("merge", "verify")


def merge_adapter(
    config: ExportConfig, workspace: Workspace, base: HfModel, continued: HfModel, adapter: Adapter
) -> Summary:
    """The tuned model as a plain Hugging Face folder, its logits proved in a second process that knows no adapter.

    Raises ModelError where logits, ties, config, tokenizer or parameter count differ from what they must be.
    """

    def show(event: Event) -> None:
        workspace.progress(STEPS.index(event["step"]), len(STEPS), "steps")

    arguments = {
        "config": config.model_dump(mode="json"),
        "base": str(base.path.resolve()),
        "continued": str(continued.path.resolve()),
        "target": str(workspace.path.resolve()),
        "reference": str((workspace.scratch / "reference.safetensors").resolve()),
    }
    merged = run_worker(
        "tasks.models.merge_worker:merge", {**arguments, "adapter": str(adapter.path.resolve())}, workspace, show
    )
    verified = run_worker("tasks.models.merge_worker:verify", arguments, workspace, show)
    workspace.progress(len(STEPS), len(STEPS), "steps")
    return Summary(counts=verified["counts"], proofs={**merged, **verified["proofs"]})
