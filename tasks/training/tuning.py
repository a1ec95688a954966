"""The stage that tunes a LoRA adapter on the responses of an instruction set."""

from __future__ import annotations

from data_contracts.artifacts import HfModel, InstructionSet
from data_contracts.manifest import Summary
from tasks.training.backends import TrainingJob
from tasks.training.config import LoraConfig
from tasks.training.running import run_training
from tasks.workspace import Workspace


def tune(config: LoraConfig, workspace: Workspace, model: HfModel, instructions: InstructionSet) -> Summary:
    """Leaves a peft adapter (fp32) with `training.json` and `logs/metrics.jsonl`.

    Only response tokens, and the end-of-sequence token after them, bear loss. Pairs that were cut or dropped for their
    length are counted. Raises ConfigError for layers the model lacks, DataError if no pair fits, ModelError,
    TrainingDiverged, and WorkerLost (worth a retry) for a worker that was stopped.
    """
    job = TrainingJob(
        task="lora",
        lora=config,
        model=model.path.resolve(),
        train=instructions.path.resolve() / "train.jsonl",
        validation=instructions.path.resolve() / "validation.jsonl",
        output=workspace.path.resolve(),
        scratch=workspace.scratch.resolve(),
    )
    described = {
        "base_model": config.base_name,
        "peft_scheme": "lora",
        "lora_rank": config.rank,
        "lora_alpha": config.alpha,
    }
    return run_training(job, workspace, project=workspace.runtime.wandb.lora_project, description=described)
