"""A NeMo checkpoint as a Hugging Face folder: the weights are its own, and everything else the base model's."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from data_contracts.errors import ModelError
from tasks.models.folders import model_files, tensor_shapes
from tasks.models.nemo_folder import connector_for, make_view

COMPUTED = ".rotary_emb.inv_freq"
"""Ends the name of a tensor that old folders hold and nothing reads: it is computed from the config."""
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F64": torch.float64}


def export_checkpoint(checkpoint: Path, base: Path, output: Path) -> None:
    """Writes the checkpoint's weights to `output` by the base's files: same names, shapes, dtypes and shards.

    Config, generation config, tokenizer and licence are the base's own bytes. Raises ModelError where the checkpoint
    does not hold exactly the base's tensors.
    """
    output.mkdir(parents=True, exist_ok=True)
    tensors, _ = exported_tensors(checkpoint, base)
    for path in _weight_files(base):
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        shard = {name: tensors.of(name, path) for name in tensor_shapes(path)}
        save_file(shard, output / path.name, metadata=metadata or {"format": "pt"})
    for name in model_files(base):
        if not name.endswith(".safetensors"):
            shutil.copyfile(base / name, output / name)


def exported_tensors(checkpoint: Path, base: Path) -> tuple[ExportedTensors, int]:
    """The checkpoint's weights by the base's names, and the number of parameters that NeMo has."""
    from tasks.training.nemo_compat import prepare

    prepare()
    from tasks.models.nemo_connectors import converted

    with tempfile.TemporaryDirectory(prefix="tsuzuki-view-") as folder:
        view = Path(folder)
        connector = connector_for(base, make_view(base, view))
        model, num_parameters = converted(connector, checkpoint, view)
        tensors = ExportedTensors(checkpoint, model)
    tensors.check_names({name for path in _weight_files(base) for name in tensor_shapes(path)})
    return tensors, num_parameters


class ExportedTensors:
    """The tensors of a transformers model by the names of a folder's files."""

    def __init__(self, checkpoint: Path, model: Any) -> None:
        self.checkpoint = checkpoint
        self.is_tied = bool(model.config.tie_word_embeddings)
        self.embedding: str = next(
            name for name, _ in model.named_parameters() if name.endswith(("embed_tokens.weight", "wte.weight"))
        )
        self.tensors: dict[str, torch.Tensor] = dict(model.state_dict())
        head = {"lm_head.weight"} if self.is_tied else set()
        self.num_parameters = sum(tensor.numel() for name, tensor in self.tensors.items() if name not in head)
        """Parameters of the model; a tied matrix counts once."""
        if self.is_tied:
            self.tensors["lm_head.weight"] = self.tensors[self.embedding]

    def check_names(self, expected: set[str]) -> None:
        """Raises ModelError unless these are the base's names; a tied head may be there or not."""
        free = {"lm_head.weight"} if self.is_tied else set()
        lacking = {name for name in expected - self.tensors.keys() if not name.endswith(COMPUTED)}
        surplus = self.tensors.keys() - expected - free
        for what, names in (("lacks", lacking), ("has besides the base's", surplus)):
            if names:
                raise ModelError(
                    f"`{self.checkpoint}`: {what} {len(names)} tensors, such as {min(names)}",
                    hint="NeMo does not map this model whole; use backend transformers",
                )

    def of(self, name: str, base_file: Path) -> torch.Tensor:
        """The tensor as the base's file would hold it: its shape checked, in its dtype, apart in memory."""
        dtype, shape = tensor_shapes(base_file)[name]
        if name not in self.tensors:
            with safe_open(base_file, "pt") as file:
                return file.get_tensor(name)
        tensor = self.tensors[name]
        if tuple(tensor.shape) != shape:
            raise ModelError(
                f"`{self.checkpoint}`: {name} is {tuple(tensor.shape)}, the base has {shape}",
                hint="the checkpoint is of another model; import the base again",
            )
        return tensor.detach().to(DTYPES[dtype]).contiguous().clone()

    def differences(self, base: Path) -> Iterator[str]:
        """Names of tensors that are not bit for bit the base's."""
        for path in _weight_files(base):
            with safe_open(path, "pt") as file:
                for name in tensor_shapes(path):
                    if not torch.equal(_bits(file.get_tensor(name)), _bits(self.of(name, path))):
                        yield name


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """Its bytes: NaN is not equal to NaN, and zero is to minus zero."""
    return tensor.contiguous().flatten().view(torch.uint8)


def _weight_files(folder: Path) -> list[Path]:
    return [folder / name for name in model_files(folder) if name.endswith(".safetensors")]
