"""Small real checkpoints in NeMo's layout, written by torch.distributed.checkpoint in the order in which NeMo writes.

As a program, `nemo_folders.py FOLDER` writes one after the other into a folder until it is killed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.distributed import checkpoint

MANY_FLOATS = 1 << 21


def tensors(step: int, num_floats: int = 4096) -> dict[str, torch.Tensor]:
    return {f"model.{name}.weight": torch.full((num_floats,), float(step)) for name in ("embedding", "output")}


def write(path: Path, step: int, samples: int = 0, num_floats: int = 4096, **more: Any) -> Path:
    """Writes the folder; all its tensors hold the number of the step. more: further content of `common.pt`."""
    marker, weights = path.with_name(path.name + "-unfinished"), path / "weights"
    path.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    weights.mkdir(parents=True)
    common = {
        "global_step": step,
        "epoch": 0,
        "loops": {"fit_loop": {"state_dict": {}}},
        "PreTrainingDataModule": {"consumed_samples": samples},
        "lr_schedulers": [{"last_epoch": step, "of_a_class": SimpleNamespace(note="元の設定")}],
        "rng": torch.get_rng_state(),
        **more,
    }
    torch.save(common, weights / "common.pt")
    with _alone():
        # .distcp files first, .metadata after them
        checkpoint.save(tensors(step, num_floats), storage_writer=checkpoint.FileSystemWriter(weights), no_dist=True)
    seal = {"sharded_backend": "torch_dist", "sharded_backend_version": 1, "common_backend": "torch"}
    (weights / "metadata.json").write_text(json.dumps(seal))
    (path / "context").mkdir()
    (path / "context" / "io.json").write_text(json.dumps({"root": {"id": "TrainerContext"}}))
    marker.unlink()
    return path


def read(path: Path, num_floats: int = 4096) -> dict[str, torch.Tensor]:
    """The tensors of a folder, by torch's own reader."""
    found = tensors(-1, num_floats)
    with _alone():
        checkpoint.load(found, storage_reader=checkpoint.FileSystemReader(path / "weights"), no_dist=True)
    return found


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Without the warning that there is one process, as there is meant to be."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def main(folder: Path) -> None:
    for step in range(1, 1000):
        write(folder / f"step={step}-last", step, 8 * step, MANY_FLOATS)
        shutil.rmtree(folder / f"step={step - 2}-last", ignore_errors=True)
        sys.stdout.write(f"{step}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
