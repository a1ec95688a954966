"""What the base model is and how a trained one is exported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.runtime import NOT_IDENTITY

HUB_SOURCE = re.compile(r"^hf://(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?$")
Dtype = Literal["float32", "bfloat16", "float16"]


class TinyConfig(BaseModel):
    """A small Qwen2-architecture model with random weights and a byte-level BPE tokenizer trained on the sample."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary_size: int = Field(
        default=4096, ge=320, description="Tokens, the 256 bytes and 3 control tokens included."
    )
    hidden_size: int = Field(default=256, ge=8, description="Width of the model.")
    num_layers: int = Field(default=2, ge=1, description="Decoder layers.")
    num_heads: int = Field(default=4, ge=1, description="Attention heads.")
    num_key_value_heads: int = Field(default=4, ge=1, description="Key and value heads; divides num_heads.")
    intermediate_size: int = Field(default=512, ge=8, description="Width of the feed-forward layers.")
    max_position_embeddings: int = Field(default=1024, ge=16, description="Context length in tokens.")
    rope_theta: float = Field(default=10_000.0, gt=0, description="Base of the rotary position angles.")
    tie_word_embeddings: bool = Field(default=True, description="One matrix for embedding and head.")
    initializer_range: float = Field(
        default=0.05, gt=0, description="Standard deviation of the random weights; 0.05 learns facts faster than 0.02."
    )
    seed: int = Field(default=42, ge=0, description="Seed of the random weights.")
    tokenizer_documents: int = Field(default=3000, ge=60, description="Sample documents the tokenizer is trained on.")
    tokenizer_seed: int = Field(default=7, description="Seed of those sample documents.")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % (2 * self.num_heads) or self.num_heads % self.num_key_value_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of 2 x num_heads {self.num_heads}, "
                f"and num_heads one of num_key_value_heads {self.num_key_value_heads}"
            )
        return self


class ModelConfig(BaseModel):
    """The base model. A folder's path given as `source` is read as source `local` with that `path`.

    The path itself is no identity (the digest of the folder's files is); a name on the hub is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(default="tiny", description="`tiny`, `hf://org/name[@revision]`, `local`, or a folder's path.")
    path: Path | None = Field(
        default=None, description="Hugging Face model folder of source `local`.", json_schema_extra=NOT_IDENTITY
    )
    endpoint: str | None = Field(
        default=None,
        pattern="^https?://",
        description="Address of the hub or a mirror of it; none for the library's own (HF_ENDPOINT).",
        json_schema_extra=NOT_IDENTITY,
    )
    tiny: TinyConfig = Field(default_factory=TinyConfig, description="Shape and seed of source `tiny`.")
    expect_pretrained: bool | None = Field(
        default=None, description="Refuse weights that look random; none: yes for local and hub models, no for `tiny`."
    )
    licence: str | None = Field(
        default=None, description="Licence of the model; none: Apache-2.0 for `tiny`, else unknown."
    )
    attribution: str = Field(default="", description="Attribution line that the licence asks for.")
    cpu_threads: int = Field(default=2, ge=1, description="Threads of torch; part of the identity, sums depend on it.")

    @model_validator(mode="before")
    @classmethod
    def _folder_as_path(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(source := values.get("source", "tiny"), str | Path):
            return values
        if str(source) in ("tiny", "local") or str(source).startswith("hf://"):
            return values
        return {**values, "source": "local", "path": source}

    @model_validator(mode="after")
    def _source_is_complete(self) -> Self:
        if self.source.startswith("hf://") and not HUB_SOURCE.match(self.source):
            raise ValueError(f"source `{self.source}` is not of the form hf://org/name or hf://org/name@revision")
        if (self.source == "local") != (self.path is not None):
            raise ValueError(f"source `{self.source}` with path `{self.path}`: a path goes with source `local` alone")
        return self

    @property
    def must_be_pretrained(self) -> bool:
        return self.source != "tiny" if self.expect_pretrained is None else self.expect_pretrained


class NemoImportConfig(BaseModel):
    """How the base model becomes a NeMo checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    free_disk_ratio: float = Field(
        default=3.0,
        ge=1.0,
        description="Refuse a disk with less free than this many times the model's weights.",
        json_schema_extra=NOT_IDENTITY,
    )


class ExportConfig(BaseModel):
    """How the adapter is merged into the continued model, and what proves it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["base"] | Dtype = Field(default="base", description="Type of the saved weights; `base`: the base's.")
    logits_tolerance: float = Field(
        default=1e-5,
        gt=0,
        description="Largest difference of a logit, absolute up to magnitude 1 and relative above.",
    )
    compare_dtype: Literal["float64", "float32"] = Field(
        default="float64",
        description="Type that merged and unmerged logits are computed in; float32 halves the memory, and is noisier.",
    )
    prompts: tuple[str, ...] = Field(
        default=(
            "日本の四季について説明してください。",
            "人工知能の未来は",
            "### 指示:\n次の質問に答えてください。\n\n### 応答:\n",
            "The history of the railway begins",
        ),
        min_length=1,
        description="Fixed prompts whose logits are compared.",
    )
    max_shard_bytes: int = Field(default=5_000_000_000, ge=1_000_000, description="Largest safetensors file.")
    cpu_threads: int = Field(default=2, ge=1, description="Threads of torch; part of the identity, sums depend on it.")
