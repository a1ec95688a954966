"""A LoRA adapter that NeMo trained, as peft writes it."""

# pyright: reportMissingImports=false
# megatron is of the environment of backend `nemo`.
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from data_contracts.errors import ModelError
from tasks.training.config import LoraConfig
from tasks.training.nemo_recipes import LORA_TARGETS, lora_targets

NEMO_PREFIX = {
    "linear_qkv": "self_attention",
    "linear_proj": "self_attention",
    "linear_fc1": "mlp",
    "linear_fc2": "mlp",
}
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
    for layer in range(shape["num_hidden_layers"]):
        for target in targets:
            name = f"decoder.layers.{layer}.{NEMO_PREFIX[target]}.{target}.adapter"
            try:
                first, second = found.pop(f"{name}.linear_in.weight"), found.pop(f"{name}.linear_out.weight")
            except KeyError:
                raise ModelError(
                    f"`{checkpoint}`: holds no adapter {name}", hint="this is an error in tsuzuki; please report it"
                ) from None
            for part, rows in zip(LORA_TARGETS[target], _rows(target, second, shape), strict=True):
                place = f"base_model.model.model.layers.{layer}.{PEFT_PREFIX[target]}.{part}"
                tensors[f"{place}.lora_A.weight"], tensors[f"{place}.lora_B.weight"] = first.clone(), rows.contiguous()
    if found:
        raise ModelError(
            f"`{checkpoint}`: holds {len(found)} trained tensors that belong to no adapter, such as {next(iter(found))}",
            hint="this is an error in tsuzuki; please report it",
        )
    save_file(dict(sorted(tensors.items())), output / "adapter_model.safetensors", metadata={"format": "pt"})
    _write_config(config, [part for target in targets for part in LORA_TARGETS[target]], output)
    return num_trained


def _adapter_tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The trained tensors of a checkpoint by NeMo's names, put together from all processes' parts, fp32."""
    from megatron.core import dist_checkpointing

    plain: dict[str, Any] = dist_checkpointing.load_plain_tensors(str(checkpoint / "weights"))
    return {
        name.removeprefix("module."): tensor.float()
        for name, tensor in plain.items()
        if ".adapter." in name and not name.startswith("optimizer.") and tensor is not None and tensor.numel()
    }


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


def _write_config(config: LoraConfig, modules: list[str], output: Path) -> None:
    from peft import LoraConfig as PeftLoraConfig

    peft_config = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=config.dropout,
        target_modules=modules,
        task_type="CAUSAL_LM",
        base_model_name_or_path=config.base_name,
        inference_mode=True,
    )
    content = {name: _plain(value) for name, value in sorted(peft_config.to_dict().items())}
    (output / "adapter_config.json").write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value.value if hasattr(value, "value") else value
