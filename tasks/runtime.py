"""Where a stage runs: everything that may change between machines and must not change a byte of output."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from tasks.training.executors import ExecutorSettings, Inline

Progress = Callable[..., None]
"""`progress(done, total=None, unit="documents", **figures)`: cheap, may be called often, from one thread."""


class WandbConfig(BaseModel):
    """Weights & Biases: where training figures go besides `metrics.jsonl`. The API key comes from WANDB_API_KEY."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: str = Field(default="disabled", pattern="^(online|offline|disabled)$", description="How WandB runs.")
    project: str = Field(default="qwen25-japanese-continual", description="Project of the pretraining run.")
    lora_project: str = Field(default="qwen25-japanese-peft", description="Project of the LoRA run.")
    entity: str | None = Field(default=None, description="Team or user; none for the account's default.")
    tags: tuple[str, ...] = Field(default=(), description="Tags of both runs.")


class Runtime(BaseModel):
    """Store, workers, interpreters: never part of an identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Path = Field(description="Folder of the sealed artifacts.")
    workers: int = Field(default=1, ge=1, description="Processes a stage may use for its shards.")
    engine: Literal["local", "dask", "curator", "cudf"] = Field(
        default="local",
        description="What runs the jobs of a stage: processes of this machine, a Dask cluster, NeMo Curator on Ray,"
        " or a GPU.",
    )
    scheduler_address: str | None = Field(
        default=None, description="Dask scheduler that sees the same store; none starts a cluster on this machine."
    )
    curator_python: Path | None = Field(default=None, description="Interpreter with NeMo Curator, for its engine.")
    ray_address: str | None = Field(
        default=None, description="Ray cluster that sees the same store; none starts Ray on this machine."
    )
    memory_bytes: int = Field(
        default=4 << 30, ge=1 << 28, description="Memory that the processes of a dedup or split may take together."
    )
    worker_python: Path = Field(default=Path(sys.executable), description="Interpreter of training workers.")
    nemo_python: Path | None = Field(default=None, description="Interpreter with NeMo, for the backend of that name.")
    executor: ExecutorSettings = Field(
        default=Inline(), description="How the processes of a NeMo training are started."
    )
    cancel_grace_seconds: float = Field(default=20.0, description="Time between SIGTERM and SIGKILL for a worker.")
    spark_submit: Path | None = Field(default=None, description="The program spark-submit, for the real Uzushio.")
    uzushio_jar: Path | None = Field(default=None, description="The jar of Uzushio.")
    gitlab_token: SecretStr | None = Field(default=None, description="Token for the LLM-JP GitLab; none if public.")
    wandb: WandbConfig = Field(default_factory=WandbConfig, description="Experiment tracking.")


NOT_IDENTITY: dict[str, Any] = {"identity": False}
"""`json_schema_extra` of a config field that only says where something lies or how it is shown."""


def identity(config: BaseModel) -> dict[str, Any]:
    """The values of a config that make its identity: all but the fields marked NOT_IDENTITY, as plain JSON."""
    dumped = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("identity") is False:
            del dumped[name]
        elif isinstance(value := getattr(config, name), BaseModel):
            dumped[name] = identity(value)
        elif isinstance(value, tuple) and value and all(isinstance(item, BaseModel) for item in value):
            dumped[name] = [identity(item) for item in value]
    return dumped
