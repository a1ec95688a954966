"""Checkpoints that are whole or not there: written aside, hashed, renamed; a damaged one is passed over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from data_contracts.files import HashingFile, hash_file, sync_path
from tasks.training.checkpoint_seal import SEAL, STATE, damage

PARAMETERS, OPTIMIZER = "parameters.safetensors", "optimizer.pt"


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next step depends on.

    parameters: the trained tensors by name, fp32. optimizer: its state_dict. random: generator states by device.
    state: JSON values, `step` among them; the data position is step * global batch size.
    """

    parameters: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    random: dict[str, torch.Tensor]
    state: dict[str, Any]


class CheckpointFolder:
    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, step: int, checkpoint: Checkpoint) -> Path:
        """Writes `step-NNNNNNNN/` so that a kill at any moment leaves it whole or absent, then drops old ones."""
        final, aside = self.folder / f"step-{step:08d}", self.folder / f".writing-{step:08d}"
        for leftover in (aside, final):
            shutil.rmtree(leftover, ignore_errors=True)
        aside.mkdir()
        save_file(checkpoint.parameters, aside / PARAMETERS)
        entries = [hash_file(aside / PARAMETERS)]
        with HashingFile(aside / OPTIMIZER) as file:
            torch.save({"optimizer": checkpoint.optimizer, "random": checkpoint.random}, file)  # pyright: ignore
        entries.append(file.entry(OPTIMIZER))
        with HashingFile(aside / STATE) as file:
            file.write(json.dumps(checkpoint.state).encode())
        entries.append(file.entry(STATE))
        (aside / SEAL).write_text(json.dumps([entry.model_dump() for entry in entries]), encoding="utf-8")
        for name in (PARAMETERS, OPTIMIZER, STATE, SEAL):
            sync_path(aside / name)
        sync_path(aside)
        aside.rename(final)
        sync_path(self.folder)
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(old)
        return final

    def steps(self) -> list[Path]:
        """Folders of the checkpoints, oldest first, whole or not."""
        return sorted(self.folder.glob("step-*"))

    def load_latest(self, on_damage: Callable[[str], None]) -> Checkpoint | None:
        """The newest whole checkpoint, or None; each damaged one is told to `on_damage` and removed."""
        for leftover in self.folder.glob(".writing-*"):
            shutil.rmtree(leftover)
        for path in reversed(self.steps()):
            if lack := damage(path):
                on_damage(f"`{path.name}`: {lack}; falling back to the checkpoint before it")
                shutil.rmtree(path)
                continue
            saved = torch.load(path / OPTIMIZER, map_location="cpu", weights_only=True)
            state = json.loads((path / STATE).read_text(encoding="utf-8"))
            return Checkpoint(load_file(path / PARAMETERS), saved["optimizer"], saved["random"], state)
        return None
