"""The worker's side of stage `export`: merge and save in one process, load and compare in another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from data_contracts.errors import ModelError
from tasks.models.config import ExportConfig
from tasks.models.folders import check_model_files, read_json, saved_dtype, tokenizer_files, write_json
from tasks.models.loading import is_tied, load_model, load_tokenizer, num_parameters, prepare_torch
from tasks.worker import Emit

FREE_CONFIG_FIELDS = frozenset({"_name_or_path", "dtype", "torch_dtype", "transformers_version", "use_cache"})
"""Fields of config.json that say how a model was saved; every other one must be equal to the base's."""


def merge(
    config: dict[str, Any], base: str, continued: str, adapter: str, target: str, reference: str, *, emit: Emit
) -> dict[str, Any]:
    """Writes the merged model to `target` and the logits it must give to `reference`; proofs of the merge in fp32.

    Raises ModelError when merged and unmerged logits differ by more than the tolerance.
    """
    export = ExportConfig.model_validate(config)
    prepare_torch(export.cpu_threads)
    emit("progress", step="merge")
    compare_configs(Path(base), Path(continued))
    tokenizer = load_tokenizer(Path(base))
    model = load_model(Path(continued), dtype="float32")
    if is_tied(model):
        _refuse_untying(Path(adapter))
    adapted: Any = PeftModel.from_pretrained(model, adapter, autocast_adapter_dtype=False).eval()
    expected = logits_in(export.compare_dtype, adapted, tokenizer, export.prompts)
    merged = adapted.merge_and_unload(safe_merge=True)
    exact = logits_in(export.compare_dtype, merged, tokenizer, export.prompts)
    difference = largest_difference(expected, exact)
    check_difference(Path(adapter), difference, export.logits_tolerance, "merging in fp32 changed the logits")
    dtype = saved_dtype(Path(base)) if export.dtype == "base" else export.dtype
    save_merged(merged, dtype, Path(base), Path(target), export.max_shard_bytes)
    cast = largest_difference(exact, logits_in(export.compare_dtype, merged, tokenizer, export.prompts))
    saved = prompt_logits(merged, tokenizer, export.prompts)  # of what the cast has left
    save_file({str(i): logits for i, logits in enumerate(saved)}, reference)
    return {
        "dtype": dtype,
        "num_prompts": len(export.prompts),
        "logits_tolerance": export.logits_tolerance,
        "merge_difference": difference,
        "cast_difference": cast,
    }


def verify(
    config: dict[str, Any], base: str, continued: str, target: str, reference: str, *, emit: Emit
) -> dict[str, Any]:
    """Loads what was exported as a user would, and compares it with the base, the continued model and the reference.

    Raises ModelError or UnprovenWeightsError for the first thing that differs.
    """
    export, folder = ExportConfig.model_validate(config), Path(target)
    prepare_torch(export.cpu_threads)
    emit("progress", step="verify")
    check_model_files(folder)
    compare_configs(Path(base), folder)
    tokenizer = load_tokenizer(folder)
    model = load_model(folder, dtype="float32")
    tensors = load_file(reference)
    expected = [tensors[str(place)] for place in range(len(export.prompts))]
    difference = largest_difference(expected, prompt_logits(model, tokenizer, export.prompts))
    check_difference(
        folder, difference, export.logits_tolerance, "the saved model gives other logits than the merged one"
    )
    original = load_model(Path(continued), dtype="float32")
    compare_shapes(folder, model, original)
    proofs = {
        "reload_difference": difference,
        "tied_embeddings": is_tied(model),
        "architecture": type(model).__name__,
        "config_equals_base": True,
        "config_fields_not_compared": sorted(FREE_CONFIG_FIELDS),
        "loads_in_fresh_process": True,
    }
    return {"counts": {"parameters": num_parameters(model)}, "proofs": proofs}


def save_merged(model: PreTrainedModel, dtype: str, base: Path, target: Path, max_shard_bytes: int) -> None:
    """Writes weights in that dtype; config, generation config and tokenizer are the base's own files.

    transformers would rewrite them in the words of its version; only the dtype may change.
    """
    cast_weights(model, dtype)
    model.save_pretrained(target, max_shard_size=max_shard_bytes)
    for name in ("config.json", "generation_config.json", *tokenizer_files(base)):
        (target / name).unlink(missing_ok=True)
        if (base / name).is_file():
            shutil.copyfile(base / name, target / name)
    config = read_json(base / "config.json")
    named = {name for name in ("dtype", "torch_dtype") if name in config} or {"dtype"}
    if any(config.get(name) != dtype for name in named):
        write_json(target / "config.json", {**config, **dict.fromkeys(named, dtype)})


def cast_weights(model: PreTrainedModel, dtype: str) -> None:
    """Changes the type of the weights, and of nothing else, in place.

    `model.to` would round the rotary frequencies too, which are computed anew, in fp32, whenever the model is loaded.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype))


def prompt_logits(model: Any, tokenizer: Any, prompts: tuple[str, ...]) -> list[torch.Tensor]:
    """For each prompt its fp32 logits, (tokens, vocabulary), on the CPU."""
    with torch.inference_mode():
        ids = [tokenizer(prompt, return_tensors="pt")["input_ids"] for prompt in prompts]
        return [model(input_ids=row, use_cache=False).logits[0].float().clone().contiguous() for row in ids]


def logits_in(dtype: str, model: Any, tokenizer: Any, prompts: tuple[str, ...]) -> list[torch.Tensor]:
    """`prompt_logits` of fp32 weights, computed in `dtype`; the weights come back unchanged.

    In float64 the order of sums no longer shows, so that a difference is one of the weights.
    """
    cast_weights(model, dtype)
    logits = prompt_logits(model, tokenizer, prompts)
    cast_weights(model, "float32")
    return logits


def largest_difference(expected: list[torch.Tensor], found: list[torch.Tensor]) -> float:
    """Largest difference of two logits, divided by their magnitude where that is above 1; infinite for NaN."""
    worst = 0.0
    for left, right in zip(expected, found, strict=True):
        if left.shape != right.shape:
            return float("inf")
        difference = float(((left - right).abs() / left.abs().clamp(min=1.0)).max())
        worst = max(worst, difference if difference == difference else float("inf"))
    return worst


def check_difference(subject: Path, difference: float, tolerance: float, found: str) -> None:
    """Raises ModelError for a difference above the tolerance."""
    if not difference <= tolerance:
        raise ModelError(
            f"`{subject}`: {found} by {difference:.3g}, expected at most {tolerance:g}",
            hint="run the export again; if it stays, the adapter or this architecture cannot be merged exactly",
        )


def compare_configs(base: Path, other: Path) -> None:
    """Raises ModelError unless two folders' config.json are equal in every field but the free ones."""
    left, right = read_json(base / "config.json"), read_json(other / "config.json")
    for name in sorted((left.keys() | right.keys()) - FREE_CONFIG_FIELDS):
        if left.get(name) != right.get(name):
            raise ModelError(
                f"`{other / 'config.json'}`: {name} is {right.get(name)}, the base model has {left.get(name)}",
                hint="continue and tune the model that `base` names; rebuild the stages after it",
            )


def compare_shapes(folder: Path, model: PreTrainedModel, original: PreTrainedModel) -> None:
    """Raises ModelError unless both models have the same parameters by name and shape, and the same tie."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    expected = {name: tuple(p.shape) for name, p in original.named_parameters()}
    if different := sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name)):
        raise ModelError(
            f"`{folder}`: {len(different)} parameters differ from the continued model's ({different[0]}: "
            f"{shapes.get(different[0])}, expected {expected.get(different[0])})",
            hint="run the export again",
        )
    if is_tied(model) != is_tied(original):
        raise ModelError(
            f"`{folder}`: tied embeddings {is_tied(model)}, expected {is_tied(original)}", hint="run the export again"
        )


def _refuse_untying(adapter: Path) -> None:
    """A tied matrix that the adapter changes on one side alone could not stay tied."""
    config = read_json(adapter / "adapter_config.json")
    named = [name for field in ("target_modules", "modules_to_save") for name in config.get(field) or ()]
    if touched := {"lm_head", "embed_tokens"} & set(named):
        raise ModelError(
            f"`{adapter}`: it changes {', '.join(sorted(touched))}, which the base model ties to one matrix",
            hint="tune without lm_head and embed_tokens, or continue a model with untied embeddings",
        )
