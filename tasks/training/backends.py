"""The training backends by name, and the job that every one of them gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import ConfigError
from tasks.training.config import LoraConfig, OptimizationConfig, PretrainConfig

BACKENDS: dict[str, str] = {
    "nemo": "tasks.training.nemo_backend:run",
    "transformers": "tasks.training.transformers_backend:run",
}
"""`module:function`, imported by the worker process only; called as `function(job=TrainingJob as JSON, emit=emit)`."""


class TrainingJob(BaseModel):
    """What a backend is asked to do. It leaves its result in `output`, its metrics in `output/logs/metrics.jsonl`.

    A backend emits `start` (step, steps), `progress` (step, loss, learning_rate, gradient_norm, tokens_consumed, epoch,
    tokens_per_second), `validation` (step, validation_loss), `checkpoint` (step) and `warning` (message), returns a
    TrainingResult as JSON, and continues from what an attempt that was killed left in `scratch`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["pretrain", "lora"] = Field(description="Train every weight on tokens, or an adapter on pairs.")
    pretrain: PretrainConfig | None = Field(default=None, description="Config of task pretrain.")
    lora: LoraConfig | None = Field(default=None, description="Config of task lora.")
    model: Path = Field(description="Hugging Face folder to start from.")
    train: Path = Field(description="Token file prefix (pretrain) or JSONL of pairs (lora).")
    validation: Path = Field(description="The same for validation.")
    eod_token_id: int | None = Field(default=None, description="End-of-document token of the token files.")
    nemo_checkpoint: Path | None = Field(
        default=None, description="The model as a NeMo checkpoint, for backend nemo; none: it makes one in scratch."
    )
    output: Path = Field(description="Folder for the trained model or adapter.")
    scratch: Path = Field(description="Folder for checkpoints; survives a kill, removed at the end.")

    @property
    def config(self) -> PretrainConfig | LoraConfig:
        config = self.pretrain if self.task == "pretrain" else self.lora
        assert config is not None
        return config


class TrainingResult(BaseModel):
    """What a backend returns: figures for the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: dict[str, int] = Field(description="Exact whole numbers, by name.")
    proofs: dict[str, Any] = Field(description="What was checked, with the figures.")


def backend_function(config: OptimizationConfig) -> str:
    """`module:function` of the backend that the config names. Raises ConfigError for an unknown one."""
    try:
        return BACKENDS[config.backend]
    except KeyError:
        raise ConfigError(
            f"`backend`: found `{config.backend}`, expected one of {', '.join(sorted(BACKENDS))}",
            hint="set `backend` of the training to a name from that list",
        ) from None
