"""Models and adapters in and out of Hugging Face folders, with the proof that the weights are the ones meant."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from data_contracts.errors import ConfigError, ModelError, UnprovenWeightsError
from tasks.training.batches import IGNORED, Batch
from tasks.training.config import LoraConfig, OptimizationConfig
from tasks.training.targets import target_modules

COPIED_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "*.model",
    "chat_template*",
)
"""What a trained model takes from its base byte for byte: everything but the weights."""

PRETRAINED_MARGIN_NATS = 1.0
REFERENCE_TOLERANCE_NATS = {"fp32": 1e-4, "bf16": 2e-2}


def load_model(folder: Path, config: OptimizationConfig) -> PreTrainedModel:
    """The model in fp32 on the config's device, every weight of it read from the folder's safetensors.

    Raises UnprovenWeightsError if a weight is not in the files and ConfigError for a sequence it cannot hold.
    """
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation=config.attention,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    model, info = loaded
    missing = sorted({*info["missing_keys"], *map(str, info["mismatched_keys"])} - set(model.all_tied_weights_keys))
    if missing:
        raise UnprovenWeightsError(
            f"`{folder}`: {len(missing)} weights are not in its files, such as {missing[0]}; they would be random",
            hint="the folder is incomplete or of another architecture; import the base model again",
        )
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and config.sequence_length > limit:
        raise ConfigError(
            f"`sequence_length`: found {config.sequence_length}, the model holds at most {limit} tokens",
            hint="lower sequence_length",
        )
    return model.to(config.device)


def reference_loss(folder: Path, batch: Batch, device: str) -> float:
    """Loss of the plain transformers model, fp32 and default attention, on a batch: (its ids, labels = its ids).

    The last target of each sample is left out, as transformers shifts the labels itself.
    """
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    model.to(device)
    input_ids, targets = batch.to(device)
    labels = torch.full_like(targets, IGNORED)
    labels[:, 1:] = targets[:, :-1]
    with torch.no_grad():
        return float(model(input_ids=input_ids, labels=labels).loss)


def without_last_target(batch: Batch) -> Batch:
    """The batch as `reference_loss` judges it."""
    targets = batch.targets.clone()
    targets[:, -1] = IGNORED
    return Batch(batch.input_ids, targets)


def prove_loss(folder: Path, ours: float, reference: float, precision: str) -> None:
    """Raises ModelError unless the training loop's loss at step 0 equals the reference."""
    tolerance = REFERENCE_TOLERANCE_NATS[precision]
    if not abs(ours - reference) <= tolerance:
        raise ModelError(
            f"`{folder}`: loss at step 0 is {ours:.6f}, plain transformers says {reference:.6f}, expected at most "
            f"{tolerance} apart ({precision})",
            hint="the backend does not compute this architecture as transformers does; try another attention or fp32",
        )


def prove_pretrained(folder: Path, loss: float, vocabulary_size: int) -> None:
    """Raises UnprovenWeightsError unless the loss at step 0 is clearly below that of random weights."""
    random_loss = math.log(vocabulary_size)
    if not loss < random_loss - PRETRAINED_MARGIN_NATS:
        raise UnprovenWeightsError(
            f"`{folder}`: loss at step 0 is {loss:.3f}; a pretrained model would be below "
            f"ln({vocabulary_size}) - {PRETRAINED_MARGIN_NATS} = {random_loss - PRETRAINED_MARGIN_NATS:.3f}",
            hint="the weights look random or belong to another tokenizer; a fresh model needs expect_pretrained=false",
        )


def base_dtype(folder: Path) -> torch.dtype:
    """The dtype that a model folder's config declares (fp32 if it declares none); trained weights are saved in it."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    return getattr(torch, name)


def save_model(model: PreTrainedModel, base: Path, output: Path) -> None:
    """Writes the weights in the base's dtype, and the base's config, tokenizer and generation config as they are."""
    model.to(base_dtype(base)).save_pretrained(output)  # pyright: ignore[reportArgumentType]
    (output / "generation_config.json").unlink(missing_ok=True)
    for pattern in COPIED_FILES:
        for path in sorted(base.glob(pattern)):
            shutil.copyfile(path, output / path.name)


def add_adapter(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """The model with a fresh LoRA adapter; only the adapter's weights train.

    Raises ConfigError if a named layer is not in the model.
    """
    targets = target_modules(model.config.model_type, config.target_modules)
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if unknown := [target for target in targets if target not in names]:
        raise ConfigError(
            f"`target_modules`: {', '.join(unknown)} not in the model",
            hint="name linear layers of the architecture, such as q_proj and v_proj",
        )
    peft_config = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=config.dropout,
        target_modules=list(targets),
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(config.seed)
    return get_peft_model(model, peft_config)  # pyright: ignore[reportReturnType]


def save_adapter(model: PeftModel, base_name: str, output: Path) -> None:
    """Writes the adapter in peft's format, without a machine's path and in an order that does not change."""
    write_adapter_config(model.peft_config["default"], base_name, output)
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    save_file(tensors, output / "adapter_model.safetensors", metadata={"format": "pt"})


def write_adapter_config(peft_config: Any, base_name: str, output: Path) -> None:
    """Writes `adapter_config.json` of a peft config, in an order that does not change."""
    peft_config.base_model_name_or_path = base_name
    peft_config.inference_mode = True
    content = {name: _plain(value) for name, value in sorted(peft_config.to_dict().items())}
    (output / "adapter_config.json").write_text(json.dumps(content, indent=2, sort_keys=True), encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value.value if hasattr(value, "value") else value
