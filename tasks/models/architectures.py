"""Which architectures import, train and export on which backend: one table for errors, tests and README."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

LOCAL = "nemo.collections.llm.gpt.model"
GELU = ("gelu_pytorch_tanh",)
NO_CONNECTOR = "NeMo 2.7.3 has no connector for it"
FIXED_SIZES = "NeMo 2.7.3 imports its four published sizes alone, and reads their shape from no config"


class NemoConnector(BaseModel):
    """How NeMo takes an architecture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    module: str = Field(description="Module of NeMo that holds model and connectors.")
    model: str = Field(description="Class of the model there.")
    activations: tuple[str, ...] = Field(default=("silu",), description="hidden_act of config.json that it computes.")
    rope_types: tuple[str, ...] = Field(
        default=("default", "linear"), description="rope_type of config.json that it computes."
    )
    needs_engine: bool = Field(default=False, description="Whether its layers exist for Transformer Engine only.")


class Architecture(BaseModel):
    """One row: a family of models that share a class of transformers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    families: tuple[str, ...] = Field(description="Names that people know.")
    transformers_class: str = Field(description="First of `architectures` in config.json.")
    nemo: NemoConnector | None = Field(default=None, description="How NeMo takes it; none if it does not.")
    reason: str = Field(default="", description="Why NeMo does not take it.")


def _nemo(module: str, model: str, **facts: object) -> NemoConnector:
    return NemoConnector.model_validate({"module": module, "model": model, **facts})


ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        families=("Llama 2", "Llama 3", "Llama 3.1", "Llama 3.2", "CodeLlama", "SmolLM2"),
        transformers_class="LlamaForCausalLM",
        nemo=_nemo("llama", "LlamaModel", rope_types=("default", "linear", "llama3")),
    ),
    Architecture(families=("Mistral",), transformers_class="MistralForCausalLM", nemo=_nemo("mistral", "MistralModel")),
    Architecture(families=("Mixtral",), transformers_class="MixtralForCausalLM", nemo=_nemo("mixtral", "MixtralModel")),
    Architecture(
        families=("Qwen2", "Qwen2.5"), transformers_class="Qwen2ForCausalLM", nemo=_nemo("qwen2", "Qwen2Model")
    ),
    Architecture(families=("Qwen3",), transformers_class="Qwen3ForCausalLM", nemo=_nemo("qwen3", "Qwen3Model")),
    Architecture(
        families=("Gemma",),
        transformers_class="GemmaForCausalLM",
        nemo=_nemo("gemma", "GemmaModel", activations=GELU, needs_engine=True),
    ),
    Architecture(
        families=("Gemma 2",),
        transformers_class="Gemma2ForCausalLM",
        nemo=_nemo("gemma2", "Gemma2Model", activations=GELU, needs_engine=True),
    ),
    Architecture(families=("Gemma 3",), transformers_class="Gemma3ForCausalLM", reason=FIXED_SIZES),
    Architecture(families=("Phi-3",), transformers_class="Phi3ForCausalLM", nemo=_nemo("phi3mini", "Phi3Model")),
    Architecture(families=("Falcon",), transformers_class="FalconForCausalLM", reason=NO_CONNECTOR),
    Architecture(families=("GPT-NeoX",), transformers_class="GPTNeoXForCausalLM", reason=NO_CONNECTOR),
)


def architecture_of(transformers_class: str) -> Architecture | None:
    """The row of that class of transformers; none for one that the table does not know."""
    return next((row for row in ARCHITECTURES if row.transformers_class == transformers_class), None)


def nemo_families() -> str:
    """Names of the families that NeMo takes, for an error's words."""
    return ", ".join(name for row in ARCHITECTURES if row.nemo for name in row.families)
