"""The config trees of the stages filter, dedup and split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.curation.filters import FilterSpec, default_cascade
from tasks.runtime import NOT_IDENTITY

Preset = Literal["default", "wikipedia", "web", "uzushio-03a"]

RECALL_CURVE = tuple(step / 20 for step in range(10, 21))
"""Similarities at which the recall of a sketch is told: 0.5 to 1.0."""


class NormalizationConfig(BaseModel):
    """How the text of each document is cleaned before it is filtered, in the order of the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unify_line_ends: bool = Field(default=True, description="CRLF, CR, U+0085, U+2028 and U+2029 become LF.")
    remove_control_characters: bool = Field(default=True, description="C0 and C1 but for LF and tab are removed.")
    remove_invisible: bool = Field(
        default=True, description="Soft hyphen, zero-width space, word joiner and byte order marks are removed."
    )
    unicode_form: Literal["none", "NFC", "NFKC"] = Field(
        default="NFC", description="Unicode normalisation; NFKC also folds full and half width and is not reversible."
    )
    strip_trailing_spaces: bool = Field(
        default=True, description="Spaces, tabs and U+3000 at line ends and empty lines around the text are removed."
    )
    max_blank_lines: int | None = Field(
        default=None, ge=0, description="Longest run of empty lines that stays; none for any."
    )


class FilterConfig(BaseModel):
    """What the filter stage removes: each document by the first filter of the cascade that rejects it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Preset | None = Field(
        default=None,
        description="Named normalisation and cascade; fills those that are not given.",
        json_schema_extra=NOT_IDENTITY,
    )
    normalization: NormalizationConfig = Field(default_factory=NormalizationConfig, description="Cleaning of the text.")
    cascade: tuple[FilterSpec, ...] = Field(
        default_factory=default_cascade, description="Filters in order; later ones see only what earlier ones kept."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not given.get("preset"):
            return given
        from tasks.curation.presets import preset_values

        return {**preset_values(given["preset"]), **given}

    @model_validator(mode="after")
    def _masks_first(self) -> Self:
        if any(step.filter == "mask_personal_data" for step in self.cascade[1:]):
            raise ValueError("mask_personal_data stands behind another step, whose ledger would hold what it masks")
        return self


class FuzzyConfig(BaseModel):
    """Near-duplicates: MinHash finds candidates, the exact Jaccard similarity of their n-gram sets decides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ngram_characters: int = Field(default=5, ge=1, le=32, description="Characters in an n-gram.")
    permutations: int = Field(default=256, ge=1, le=4096, description="Hash functions; equals bands times rows.")
    bands: int = Field(
        default=32, ge=1, description="Groups of hashes, one of which must be equal in a candidate pair."
    )
    rows: int = Field(default=8, ge=1, description="Hashes in a band.")
    jaccard_threshold: float = Field(default=0.8, gt=0, le=1, description="Smallest similarity of near-duplicates.")
    seed: int = Field(default=1, ge=0, lt=1 << 63, description="Seed of the hash functions.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.bands * self.rows != self.permutations:
            raise ValueError(f"bands {self.bands} x rows {self.rows} is not permutations {self.permutations}")
        return self

    def recall_at(self, jaccard: float) -> float:
        """Probability that a pair of that similarity becomes a candidate: 1 - (1 - J^rows)^bands."""
        return 1 - (1 - jaccard**self.rows) ** self.bands

    def recall_curve(self) -> dict[str, float]:
        """`recall_at` at each similarity of RECALL_CURVE and at the threshold."""
        return {f"{j:.2f}": self.recall_at(j) for j in sorted({*RECALL_CURVE, self.jaccard_threshold})}


class Documents(BaseModel):
    """Documents from outside of the pipeline that a corpus is compared with; they are never written to the output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        pattern=r"^[^:/\s]+$", description="What it is called in the ledger: its documents are `<name>:<id>`."
    )
    path: Path = Field(
        description="Folder of a sealed corpus, or a file, folder or glob of .jsonl, .jsonl.gz, .jsonl.zst, .parquet.",
        json_schema_extra=NOT_IDENTITY,
    )
    text_field: str = Field(default="text", description="Field of a record that holds its text.")
    id_field: str = Field(default="id", description="Field of a record that holds its id; `./<file>:<line>` if none.")


class KeptCorpus(Documents):
    """A corpus that an earlier run kept: whatever duplicates it is removed as `known_duplicate`."""

    kind: Literal["kept"] = "kept"


class EvaluationSet(Documents):
    """Texts that a model is to be judged by: whatever holds one of them is removed as `contamination`."""

    kind: Literal["evaluation"] = "evaluation"
    ngram_characters: int = Field(
        default=20, ge=5, le=256, description="Characters of the comparison form in an n-gram of an item."
    )
    min_containment: float = Field(
        default=0.8, gt=0, le=1, description="Share of an item's n-grams that a removed document holds at least."
    )
    min_item_characters: int = Field(
        default=8,
        ge=1,
        description="Items with a shorter comparison form stand in too many texts: they are counted, not looked for.",
    )


Reference = Annotated[KeptCorpus | EvaluationSet, Field(discriminator="kind")]


class DedupConfig(BaseModel):
    """What the dedup stage takes for a duplicate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exact: bool = Field(default=True, description="Documents with equal comparison text are duplicates.")
    fuzzy: FuzzyConfig | None = Field(default_factory=FuzzyConfig, description="Near-duplicates; none to keep them.")
    against: tuple[Reference, ...] = Field(
        default=(), description="Corpora kept earlier and evaluation sets; earlier ones name what later ones hold too."
    )

    @model_validator(mode="after")
    def _named_apart(self) -> Self:
        names = [reference.name for reference in self.against]
        if len(set(names)) < len(names):
            raise ValueError(f"against: found the names {', '.join(names)}, expected each only once")
        return self


class SplitConfig(BaseModel):
    """How documents are divided into train and validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    validation_share: float = Field(default=0.05, gt=0, lt=1, description="Share of the clusters that validate.")
    keep_source_validation: bool = Field(
        default=False, description="Keep the validation documents that the source shipped; all others train."
    )
    seed: int = Field(default=0, ge=0, description="Seed of the hash that picks the side of a cluster.")
    fuzzy: FuzzyConfig = Field(
        default_factory=lambda: FuzzyConfig(seed=2),
        description="Similarity that must not cross; another seed than dedup's finds what dedup's sketch missed.",
    )
    rows_per_shard: int = Field(default=50_000, ge=1, description="Documents in a shard.")
