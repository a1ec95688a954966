"""A Qwen2.5-0.5B of random weights in bf16, with the tokenizer of a folder, in the form that the hub gives it.

    python tests/benchmarks/nemo_proof/random_qwen.py TOKENIZER_FOLDER FOLDER [--toy] [--layers N]

TOKENIZER_FOLDER holds tokenizer.json and tokenizer_config.json. --toy: the same vocabulary on two layers of width 64,
in fp32. --layers: so many, of the same width.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

SHAPE: dict[str, Any] = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_window_layers": 24,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
}
TOY = SHAPE | {"hidden_size": 64, "intermediate_size": 128, "max_window_layers": 2, "num_hidden_layers": 2}
TOY |= {"num_attention_heads": 4, "torch_dtype": "float32"}
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 32768,
    "model_type": "qwen2",
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.1",
    "use_cache": True,
    "use_mrope": False,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
SEED = 42


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--layers", type=int)
    options = parser.parse_args()
    folder = options.folder
    shape = TOY if options.toy else SHAPE
    if options.layers:
        shape |= {"max_window_layers": options.layers, "num_hidden_layers": options.layers}
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(options.tokenizer / name, folder / name)
    write_json(folder / "config.json", CONFIG | shape)
    write_json(folder / "generation_config.json", {"do_sample": False, "eos_token_id": CONFIG["eos_token_id"]})
    write_weights(folder)


def write_weights(folder: Path) -> None:
    """Normal weights of the config's standard deviation; norms one and biases zero, as transformers starts them."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    dtype = config.dtype
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(SEED)
    weights = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            values = torch.ones(parameter.shape) if "norm" in name else torch.zeros(parameter.shape)
        else:
            values = torch.randn(parameter.shape, generator=generator) * CONFIG["initializer_range"]
        weights[name] = values.to(dtype)
    weights.pop("lm_head.weight", None)  # tied
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
