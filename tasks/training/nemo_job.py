"""What each process of a NeMo training is told, and where it leaves what; imports neither torch nor NeMo."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.files import sync_path, write_private
from tasks.training.backends import TrainingJob

STATE_NAME = "state.json"
"""In a checkpoint's folder, written last: with it the checkpoint is one that a training can go on from."""


class TrainingState(BaseModel):
    """Everything besides tensors that a resumed training must know; the same figures as backend transformers keeps."""

    model_config = ConfigDict(extra="forbid")

    step: int = Field(default=0, description="Optimizer steps done.")
    tokens: int = Field(default=0, description="Targets that losses were computed for.")
    losses: list[float] = Field(default_factory=list, description="Loss of the first step and of the last one.")
    validations: list[tuple[int, float]] = Field(default_factory=list, description="Step and loss of each validation.")
    recent: list[float] = Field(default_factory=list, description="The loss guard's last losses.")
    spikes: int = Field(default=0, description="The loss guard's consecutive spikes.")
    step0_loss: float | None = Field(default=None, description="Loss on the first batch, before any update.")


class NemoJob(BaseModel):
    """A training as every one of its processes gets it, as JSON in `<scratch>/nemo/job.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: TrainingJob = Field(description="What is to be trained.")
    checkpoint: Path = Field(description="NeMo checkpoint of the model that the training starts from.")
    num_steps: int = Field(ge=1, description="Optimizer steps of the whole training.")
    reference_loss: float = Field(description="Loss of plain transformers on the first batch.")
    vocabulary_size: int = Field(ge=1, description="Tokens that the model has embeddings for.")
    expect_pretrained: bool = Field(description="Stop when the loss of the first batch is that of random weights.")

    @property
    def folder(self) -> Path:
        return folder_of(self.training)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def events(self) -> Path:
        """JSON lines that the first process appends: the events of the worker protocol."""
        return self.folder / "events.jsonl"

    @property
    def last_logits(self) -> Path:
        """`input_ids` and `logits` of the trained model, as NeMo computes them."""
        return self.folder / "last_logits.safetensors"

    def save(self) -> Path:
        path = self.folder / "job.json"
        write_private(path, self.model_dump_json())
        return path


def folder_of(training: TrainingJob) -> Path:
    """The part of the scratch that NeMo works in."""
    return training.scratch / "nemo"


def read_job(path: str | Path) -> NemoJob:
    return NemoJob.model_validate_json(Path(path).read_text(encoding="utf-8"))


def write_state(checkpoint: Path, state: TrainingState) -> None:
    """Vouches for a checkpoint whose files are all written: they reach the disk before this does."""
    for path in checkpoint.rglob("*"):
        if path.is_file():
            sync_path(path)
    aside = checkpoint / f".{STATE_NAME}"
    aside.write_text(state.model_dump_json(), encoding="utf-8")
    sync_path(aside)
    aside.rename(checkpoint / STATE_NAME)
    sync_path(checkpoint)


def read_state(checkpoint: Path) -> TrainingState:
    return TrainingState.model_validate_json((checkpoint / STATE_NAME).read_bytes())


class EventLog:
    """Appends events; a line is written at once, so that a reader never sees a part of it under another's."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def __call__(self, event: str, **fields: Any) -> None:
        os.write(self._descriptor, (json.dumps({"event": event, **fields}, ensure_ascii=False) + "\n").encode())
