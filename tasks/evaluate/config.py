"""What is measured of the three models, and how much of it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class EvaluateConfig(BaseModel):
    """Figures of base, continued and tuned on the same texts, questions and prompts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_documents: int = Field(default=400, ge=1, description="Held-out documents at most, drawn by hash of the id.")
    max_tokens: int = Field(
        default=40_000, ge=1, description="Stop adding documents at that many of the base's tokens."
    )
    max_document_characters: int = Field(default=20_000, ge=1, description="Only that much of a document is scored.")
    sequence_length: int = Field(default=512, ge=2, description="Tokens of a window; at most the models' context.")
    context_tokens: int = Field(default=64, ge=0, description="Tokens shown again, unscored, at a window's beginning.")
    batch_tokens: int = Field(default=4096, ge=1, description="Tokens of one forward pass; bounds memory.")
    max_cloze_questions: int = Field(default=200, ge=0, description="Facts to complete, drawn by hash.")
    max_questions: int = Field(default=100, ge=0, description="Held-out instruction pairs to answer, drawn by hash.")
    answer_tokens: int = Field(default=32, ge=1, description="Longest answer to a question, in tokens.")
    prompts: tuple[str, ...] = Field(
        default=(
            "日本の四季の特徴を、春夏秋冬の順に説明してください。",
            "人工知能の未来について、あなたの考えを述べてください。",
            "おいしい料理を作るためのレシピを一つ教えてください。",
            "日本の首都は",
            "水の化学式は",
        ),
        description="Prompts that each model continues, greedily.",
    )
    prompt_tokens: int = Field(default=64, ge=1, description="Tokens a model may write after each of those prompts.")
    generation_batch_size: int = Field(default=50, ge=1, description="Prompts that are continued together.")
    num_examples: int = Field(default=5, ge=0, description="Questions of each kind written out with their answers.")
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="Where the models run; never chosen silently.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="Type they are computed in."
    )
    cpu_threads: int = Field(default=2, ge=1, description="Threads of torch; part of the identity, sums depend on it.")

    @model_validator(mode="after")
    def _windows_advance(self) -> Self:
        if self.context_tokens >= self.sequence_length:
            raise ValueError(
                f"context_tokens {self.context_tokens} must be smaller than sequence_length {self.sequence_length}"
            )
        return self
