"""A LoRA adapter that NeMo trained, as peft writes it."""

# pyright: reportMissingImports=false
# megatron is of the environment of backend `nemo`.
from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from safetensors.torch import save_file

from data_contracts.errors import ModelError
from tasks.training.config import LoraConfig
from tasks.training.nemo_recipes import LORA_TARGETS, lora_targets
from tasks.training.weights import write_adapter_config

NEMO_PREFIX = {
    "linear_qkv": "self_attention",
    "linear_proj": "self_attention",
    "linear_fc1": "mlp",
    "linear_fc2": "mlp",
}
MASTER = "optimizer.state.fp32_param.module."
HINT = "this is an error in tsuzuki; please report it"
PEFT_PREFIX = {"linear_qkv": "self_attn", "linear_proj": "self_attn", "linear_fc1": "mlp", "linear_fc2": "mlp"}


def export_adapter(checkpoint: Path, base: Path, config: LoraConfig, output: Path) -> int:
    """Writes `adapter_config.json` and `adapter_model.safetensors` (fp32); how many parameters were trained.

    NeMo adapts q, k and v as one matrix, and gate and up as one: they share their first factor, which peft keeps once
    for each. Raises ModelError unless every adapter of every layer is in the checkpoint, and nothing else.
    """
    shape = json.loads((base / "config.json").read_text(encoding="utf-8"))
    found = _adapter_tensors(checkpoint)
    num_trained = sum(tensor.numel() for tensor in found.values())
    targets = lora_targets(config.target_modules)
    tensors: dict[str, torch.Tensor] = {}
    for target in targets:
        name = f"decoder.layers.{NEMO_PREFIX[target]}.{target}.adapter"
        first, second = (
            _popped(found, f"{name}.{factor}.weight", checkpoint) for factor in ("linear_in", "linear_out")
        )
        for layer in range(shape["num_hidden_layers"]):
            for part, rows in zip(LORA_TARGETS[target], _rows(target, second[layer], shape), strict=True):
                place = f"base_model.model.model.layers.{layer}.{PEFT_PREFIX[target]}.{part}"
                tensors[f"{place}.lora_A.weight"] = first[layer].clone()
                tensors[f"{place}.lora_B.weight"] = rows.contiguous()
    if found:
        raise ModelError(
            f"`{checkpoint}`: {len(found)} trained tensors belong to no adapter, such as {next(iter(found))}", hint=HINT
        )
    save_file(dict(sorted(tensors.items())), output / "adapter_model.safetensors", metadata={"format": "pt"})
    peft_config = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=config.dropout,
        target_modules=[part for target in targets for part in LORA_TARGETS[target]],
        task_type="CAUSAL_LM",
    )
    write_adapter_config(peft_config, config.base_name, output)
    return num_trained


def _popped(tensors: dict[str, torch.Tensor], name: str, checkpoint: Path) -> torch.Tensor:
    try:
        return tensors.pop(name)
    except KeyError:
        raise ModelError(f"`{checkpoint}`: holds no {name}", hint=HINT) from None


def _adapter_tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The trained tensors of a checkpoint by NeMo's names, all layers and all processes' parts in one, fp32.

    Those of the optimizer where it keeps them apart, in fp32, from what the model computes with.
    """
    from megatron.core import dist_checkpointing

    with a_process_group():
        plain: dict[str, Any] = dist_checkpointing.load_plain_tensors(str(checkpoint / "weights"))
    found = {name: value.float() for name, value in plain.items() if isinstance(value, torch.Tensor)}
    model = {name.removeprefix("module."): value for name, value in found.items() if name.startswith("module.")}
    masters = {name.removeprefix(MASTER): value for name, value in found.items() if name.startswith(MASTER)}
    return {name: masters.get(name, value) for name, value in model.items() if ".adapter." in name}


@contextlib.contextmanager
def a_process_group() -> Iterator[None]:
    """Megatron's checkpoints can be read only within a process group; one of this process alone where there is none."""
    import torch.distributed as distributed

    if distributed.is_initialized():
        yield
        return
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())  # pyright: ignore
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _rows(target: str, second: torch.Tensor, shape: dict[str, Any]) -> list[torch.Tensor]:
    """The second factor (rows, rank) of each of transformers' layers in NeMo's one."""
    if target == "linear_fc1":
        return list(second.chunk(2))
    if target != "linear_qkv":
        return [second]
    heads, groups = shape["num_attention_heads"], shape.get("num_key_value_heads") or shape["num_attention_heads"]
    width = shape.get("head_dim") or shape["hidden_size"] // heads
    # One group after the other: the heads that share a key, that key, its value.
    grouped = second.view(groups, heads // groups + 2, width, second.shape[1])
    parts = (grouped[:, : heads // groups], grouped[:, -2:-1], grouped[:, -1:])
    return [part.reshape(-1, second.shape[1]) for part in parts]
