"""A model folder as NeMo's transformers (4.57) reads it: links to the files, and a config.json in its words.

transformers 5 writes `rope_parameters` and `dtype`; 4.57 passes over the former without a word, and would train with
another rotary base than the model has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_contracts.errors import ModelError
from tasks.models.architectures import Architecture, NemoConnector, architecture_of, nemo_families
from tasks.models.folders import (
    TORCH_DTYPES,
    check_model_files,
    model_files,
    read_json,
    tensor_shapes,
    tokenizer_files,
    write_json,
)

TOKENIZER = "nemo_tokenizer"
"""Folder of a view that holds the tokenizer alone."""
UNMAPPED_BIASES = ("attention_bias", "attention_out_bias", "mlp_bias")
TAKEN_BY_TRANSFORMERS = "backend transformers takes this model; the README has the table of architectures"


def make_view(model: Path, view: Path) -> dict[str, Any]:
    """Fills `view` with links to the model's files and its own config.json; that config.

    Raises SourceError or ModelError for a folder without whole safetensors weights.
    """
    view.mkdir(parents=True, exist_ok=True)
    names = model_files(model)
    check_model_files(model)
    for name in names:
        if name != "config.json":
            (view / name).unlink(missing_ok=True)
            (view / name).symlink_to((model / name).resolve())
    _link_tokenizer(model, view / TOKENIZER)
    config = in_older_words(read_json(model / "config.json"))
    config["torch_dtype"] = weight_dtype(model)
    for folder in (view, view / TOKENIZER):
        write_json(folder / "config.json", config)
    if "generation_config.json" not in names:
        write_json(view / "generation_config.json", {})  # NeMo's importers ask for one; it is not the model's
    return config


def _link_tokenizer(model: Path, folder: Path) -> None:
    """Links to the tokenizer's files and its config in older words; NeMo keeps a copy of this whole folder."""
    folder.mkdir(exist_ok=True)
    for name in tokenizer_files(model):
        (folder / name).unlink(missing_ok=True)
        if name != "tokenizer_config.json":
            (folder / name).symlink_to((model / name).resolve())
            continue
        config = read_json(model / name)
        if config.get("tokenizer_class") == "TokenizersBackend":
            config["tokenizer_class"] = "PreTrainedTokenizerFast"
        if isinstance(config.get("extra_special_tokens"), list):
            config["additional_special_tokens"] = config.pop("extra_special_tokens")
        write_json(folder / name, config)


def in_older_words(config: dict[str, Any]) -> dict[str, Any]:
    """The config with `rope_theta`, `rope_scaling` and `torch_dtype` as transformers 4 names them."""
    config = dict(config)
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    rope = config.pop("rope_parameters", None)
    if rope is not None:
        rope = dict(rope)
        config["rope_theta"] = rope.pop("rope_theta", config.get("rope_theta", 10_000.0))
        config["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
    return config


def weight_dtype(model: Path) -> str:
    """The torch name of the type that NeMo holds the weights in: theirs, or float32 where they are of several."""
    found = {dtype for path in model.glob("*.safetensors") for dtype, _ in tensor_shapes(path).values()}
    return TORCH_DTYPES.get(found.pop(), "float32") if len(found) == 1 else "float32"


def connector_for(model: Path, config: dict[str, Any]) -> NemoConnector:
    """NeMo's connector for a config in older words. Raises ModelError where NeMo would compute another model."""
    name = next(iter(config.get("architectures") or ()), "none")
    row = architecture_of(name)
    if row is None or row.nemo is None:
        raise ModelError(
            f"`{model}`: NeMo cannot take {_described(name, row)}, expected one of {nemo_families()}",
            hint=TAKEN_BY_TRANSFORMERS,
        )
    for field, found, expected in _differences(config, row.nemo):
        raise ModelError(
            f"`{model / 'config.json'}`: {field} is {found}; NeMo's {row.families[0]} computes {expected}",
            hint=TAKEN_BY_TRANSFORMERS,
        )
    return row.nemo


def _described(name: str, row: Architecture | None) -> str:
    return f"{row.families[0]} ({name}): {row.reason}" if row else name


def _differences(config: dict[str, Any], connector: NemoConnector) -> list[tuple[str, Any, str]]:
    """Fields that NeMo's connector passes over, with the value found and the only ones it computes."""
    found = []
    activation = config.get("hidden_activation") or config.get("hidden_act") or connector.activations[0]
    if activation not in connector.activations:
        found.append(("hidden_act", activation, " or ".join(connector.activations)))
    rope = (config.get("rope_scaling") or {}).get("rope_type") or (config.get("rope_scaling") or {}).get("type")
    if (rope or "default") not in connector.rope_types:
        found.append(("rope_scaling", rope, " or ".join(connector.rope_types)))
    if config.get("partial_rotary_factor") not in (None, 1, 1.0):
        found.append(("partial_rotary_factor", config["partial_rotary_factor"], "1"))
    if config.get("use_sliding_window"):
        found.append(("use_sliding_window", True, "attention to all tokens in every layer"))
    found += [(field, True, "no such biases") for field in UNMAPPED_BIASES if config.get(field)]
    return found
