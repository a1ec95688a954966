"""Tiny random models of every architecture in the table, as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

from micro_model import MICRO
from tasks.models.folders import write_json
from tasks.models.tiny import CONTROL_TOKENS, END_TOKEN, save_tokenizer, train_tokenizer

VOCABULARY_SIZE = 520
"""Rows of the embedding: more than any tokenizer of the tests has tokens, and no multiple of 128."""
TEXT_LENGTH = 40
SHAPE = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 96,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": CONTROL_TOKENS.index(END_TOKEN),
    "pad_token_id": None,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama2": ("Llama", {"num_key_value_heads": 4}),
    "llama3": ("Llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}}),
    "llama31": ("Llama", {"rope_parameters": LLAMA3_ROPE, "head_dim": 16}),
    "llama32": ("Llama", {"rope_parameters": {**LLAMA3_ROPE, "factor": 32.0}, "tie_word_embeddings": True}),
    "codellama": ("Llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0}}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 16}),
    "mistral_window": ("Mistral", {"sliding_window": 8}),
    "mixtral": ("Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
    "qwen2": ("Qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0}}),
    "qwen25_tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "gemma": ("Gemma", {"head_dim": 16, "hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": ("Gemma2", {"head_dim": 16, "sliding_window": 8}),
    "gemma3": ("Gemma3Text", {"head_dim": 16, "sliding_window": 8, "architectures": ["Gemma3ForCausalLM"]}),
    "phi3": ("Phi3", {}),
    "falcon": ("Falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "gpt_neox": ("GPTNeoX", {}),
}
"""Name of transformers' config class without `Config`, and what differs from SHAPE."""


def make_model(name: str, folder: Path, texts: list[str], dtype: str = "float32") -> None:
    """Writes the folder of one of MODELS; and beside it `<folder>.logits`, what it gives for some ids.

    texts: what its tokenizer is trained on.
    """
    kind, differences = MODELS[name]
    model_class = getattr(transformers, f"{kind.removesuffix('Text')}ForCausalLM")
    config = getattr(transformers, f"{kind}Config")(**{**SHAPE, **differences})
    torch.manual_seed(7)
    model = model_class(config)
    with torch.no_grad():
        for weight in model.parameters():  # norms and biases too: constant ones would hide one that was lost
            if weight.dim() == 1:
                weight.add_(torch.randn_like(weight) * 0.1)
    folder.mkdir(parents=True, exist_ok=True)
    ids = torch.randint(0, VOCABULARY_SIZE, (2, TEXT_LENGTH))
    with torch.no_grad():
        logits = model.eval()(input_ids=ids, use_cache=False).logits.contiguous()
    save_file({"ids": ids, "logits": logits}, folder.with_suffix(".logits"))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    write_json(folder / "generation_config.json", {"do_sample": False, "max_new_tokens": 20, "eos_token_id": 0})
    save_tokenizer(train_tokenizer(texts, MICRO.vocabulary_size), MICRO, folder)
