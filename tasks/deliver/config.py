"""What a delivery is called."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DeliverConfig(BaseModel):
    """Names and words of the hand-over; every figure in it comes from the artifacts themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        default="tsuzuki-demo",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$",
        description="Name of the delivered model, as a Hugging Face repository would be called.",
    )
    stage_label: str = Field(
        default="continued pretraining + LoRA", description="What was done to the base model, in a few words."
    )
    intended_use: str = Field(
        default="Research and teaching: a starting point for supervised fine-tuning (SFT) and preference tuning (DPO).",
        description="Intended use, one sentence of the model card.",
    )
    limits: str = Field(
        default="Not aligned for safety. Answers may be wrong, biased or made up; check them before use.",
        description="Known limits, one or two sentences of the model card.",
    )
    examples_per_filter: int = Field(
        default=3, ge=0, le=20, description="Removed documents that the report shows for each filter."
    )
    excerpt_characters: int = Field(
        default=160, ge=20, le=2000, description="Characters of a removed document that the report shows."
    )
