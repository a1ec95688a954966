"""Real model folders and adapters of a few kilobytes, and artifacts of any kind made from a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from data_contracts.artifacts import Artifact
from data_contracts.manifest import Summary
from micro_model import MICRO, TEXTS
from tasks.models.tiny import random_model, save_tokenizer, train_tokenizer
from tasks.runtime import Runtime
from tasks.stage import Request, Stage
from tasks.store import Store
from tasks.workspace import Workspace


class FolderConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    steps: int


def copy_folder(config: FolderConfig, workspace: Workspace, **inputs: Artifact) -> Summary:
    shutil.copytree(config.folder, workspace.path, dirs_exist_ok=True)
    return Summary(counts={"steps": config.steps})


def sealed(store: Path, stage: str, kind: type[Artifact], folder: Path, steps: int = 7, **inputs: Artifact) -> Any:
    """That folder as an artifact of that stage."""
    what = Stage(stage, kind, 1, f"{__name__}:copy_folder", "a test")
    request = Request.of(what, FolderConfig(folder=folder, steps=steps), inputs)
    return kind.open(Store(store).build(request, Runtime(store=store)).path)


def write_model(folder: Path, seed: int = 42) -> Path:
    """A random Qwen2 of 320 tokens whose opinions differ from token to token."""
    folder.mkdir(parents=True, exist_ok=True)
    config = MICRO.model_copy(update={"seed": seed})
    save_tokenizer(train_tokenizer(TEXTS, config.vocabulary_size), config, folder)
    model = random_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    model.save_pretrained(folder)
    return folder


def write_adapter(folder: Path, base: str) -> Path:
    """A peft adapter of that base (what its config calls it) that changes what the model says."""
    from peft import LoraConfig, get_peft_model

    adapted: Any = get_peft_model(random_model(MICRO), LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=2.0)
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder
