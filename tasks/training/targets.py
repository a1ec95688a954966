"""Which linear layers LoRA adapts, by architecture."""

from __future__ import annotations

from data_contracts.errors import ConfigError

_LLAMA_LIKE = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

TARGET_MODULES: dict[str, tuple[str, ...]] = {
    "codellama": _LLAMA_LIKE,
    "falcon": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    "gemma": _LLAMA_LIKE,
    "gemma2": _LLAMA_LIKE,
    "gemma3_text": _LLAMA_LIKE,
    "gpt_neox": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "mixtral": ("q_proj", "k_proj", "v_proj", "o_proj"),  # experts are fused parameters there, not linear layers
    "phi": ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"),
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
}


def target_modules(model_type: str, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """The layer names asked for, or those of the architecture.

    Raises ConfigError for an architecture that is not in the table when none were asked for.
    """
    if asked:
        return asked
    try:
        return TARGET_MODULES[model_type]
    except KeyError:
        raise ConfigError(
            f"`{model_type}`: no LoRA layers known for this architecture, expected one of {', '.join(TARGET_MODULES)}",
            hint="name its linear layers in `lora.target_modules`",
        ) from None
