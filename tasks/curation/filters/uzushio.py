"""Uzushio's filters by name, as one step of a cascade."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from tasks.curation.filters.base import Batch, Outcome, Scale, Statistic, Step
from tasks.curation.uzushio.stage import UzushioStage
from tasks.curation.uzushio.stages import StageSpec

LIMITS = ("max_document_bytes", "max_paragraphs")


class Label(NamedTuple):
    """What a label stands for: how its scores are binned, what stays, and the stage, None for our own checks."""

    scale: Scale
    bounds: tuple[float | None, float | None]
    stage: UzushioStage | None = None


class Uzushio(Step):
    """Documents cut into paragraphs at blank lines, and a list of Uzushio's filters over them, with its semantics.

    A paragraph may begin with its HTML path and U+001C; link text stands between U+0002 and U+0003. The normalisation
    before must leave these characters alone (`remove_control_characters: false`). A document is rejected under
    `uzushio.<number of the stage, from 1>.<name>`. Paragraphs that are removed, joined or marked as headings, and the
    cleaning at the end (`uzushio.text_only`: no paths, no link markers, one space for several), are edits. Lengths are
    UTF-16 code units, ratios and their bounds 32-bit floats.

    Different from Uzushio: it leaves out documents of 2 MiB or of 1,000 paragraphs without a word; here they are
    filtered like all others unless the two limits are set, and then they stand in the ledger. A document whose last
    text a paragraph filter takes is rejected by that filter, not by a later one; one that has no text at the end,
    which Uzushio does not write either, by `uzushio.empty`. Parameters that a filter does not know are refused.
    Other differences stand with their filters: CompressionRate, DeduplicateDocuments, the two KenLM ones; those of the
    near-duplicates in `tasks.curation.uzushio.near_duplicates`.

    Source: WorksApplications/uzushio (Apache-2.0), commit 23dc7b2.
    """

    holds_lock: ClassVar[bool] = True

    filter: Literal["uzushio"] = "uzushio"
    stages: tuple[StageSpec, ...] = Field(description="Uzushio's filters in order, each with its `name`.")
    max_document_bytes: int | None = Field(
        default=None, ge=1, description="UTF-8 bytes from which on a document is rejected; Uzushio's is 2097152."
    )
    max_paragraphs: int | None = Field(
        default=None, ge=1, description="Paragraphs from which on a document is rejected; Uzushio's is 1000."
    )
    near_duplicates: bool = Field(
        default=True, description="Frequencies count near-duplicates (SimHash), not only equal paragraphs."
    )
    near_rotations: int = Field(
        default=10, ge=1, le=128, description="Rotations under which signatures are sorted; Uzushio's is 5."
    )
    near_window_paragraphs: int = Field(
        default=300, ge=1, le=100_000, description="Predecessors in that order that a paragraph is compared with."
    )
    near_matching_bits: int = Field(default=76, ge=0, le=128, description="Fewest of 128 bits that agree in a pair.")

    @property
    def numbered(self) -> dict[str, UzushioStage]:
        """The stages by their labels."""
        return {f"uzushio.{number}.{stage.name}": stage for number, stage in enumerate(self.stages, 1)}

    @property
    def _table(self) -> dict[str, Label]:
        table = {
            f"uzushio.{name}": Label("count", (None, limit - 1))
            for name in LIMITS
            if (limit := getattr(self, name)) is not None
        }
        table |= {
            label: Label(stage.scale, stage.bounds, stage) for label, stage in self.numbered.items() if stage.rejects
        }
        return table | {"uzushio.empty": Label("count", (1, None))}

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._table)

    def scale_of(self, label: str) -> Scale:
        return self._table[label].scale

    def bounds_of(self, label: str) -> tuple[float | None, float | None]:
        return self._table[label].bounds

    def outside_files(self) -> dict[str, Path]:
        return {
            f"{label}.{name}": path
            for label, stage in self.numbered.items()
            for name, path in stage.outside_files().items()
        }

    def statistics(self) -> tuple[Statistic, ...]:
        if not any(stage.reads_frequencies for stage in self.stages):
            return ()
        from tasks.curation.uzushio.paragraph_counts import ParagraphCounts

        return (
            ParagraphCounts(
                near=self.near_duplicates,
                rotations=self.near_rotations,
                window=self.near_window_paragraphs,
                matching_bits=self.near_matching_bits,
            ),
        )

    def apply(self, batch: Batch) -> Outcome:
        from tasks.curation.uzushio.running import run_stages

        frequencies = next((statistic.name for statistic in self.statistics()), None)
        limits = {name: getattr(self, name) for name in LIMITS}
        return run_stages(self.numbered, batch, self.labels, limits, frequencies)

    def reason(self, label: str, score: float, threshold: float) -> str:
        stage = self._table[label].stage
        if stage is not None:
            return f"{label}: {stage.reason(score, threshold)}"  # pyright: ignore[reportAttributeAccessIssue]
        if label == "uzushio.empty":
            return f"{label}: {score:.0f} characters left, expected at least one"
        unit = {"max_document_bytes": "bytes", "max_paragraphs": "paragraphs"}[label.removeprefix("uzushio.")]
        return f"{label}: {score:.0f} {unit}, the limit is {threshold:.0f}"
