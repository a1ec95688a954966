"""Filters by the perplexity of a KenLM model: KenLMDocAvgPerplexity, KenLMParagraphPerplexity."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, Field

from tasks.curation.filters.base import Scale
from tasks.curation.uzushio.stage import MarkingStage, RatioStage
from tasks.runtime import NOT_IDENTITY

if TYPE_CHECKING:
    import numpy as np

    from tasks.curation.uzushio.paragraphs import Documents


class LanguageModel(BaseModel):
    """The fields that both filters have. A paragraph is cut into sentences, these into words by Sudachi (mode C).

    The score of a paragraph is the mean log10 probability of its words, each sentence begun afresh; perplexity is
    10^-score. Uzushio empties its buffer at each sentence and so scores the last one alone: `as_upstream` does that
    too. A paragraph without words scores 0, perplexity 1. Uzushio gives -50 to what Sudachi refuses; sentences are cut
    short enough here that it refuses none.
    """

    kenlm: Path = Field(description="KenLM model, ARPA or binary.", json_schema_extra=NOT_IDENTITY)
    sudachi: Path | None = Field(
        default=None,
        description="Sudachi dictionary; none for the installed sudachidict_core.",
        json_schema_extra=NOT_IDENTITY,
    )
    outliers: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of a paragraph's words left out, half of it with the best and half with the worst scores.",
    )
    as_upstream: bool = Field(default=False, description="Score only the last sentence of each paragraph.")

    def outside_files(self) -> dict[str, Path]:
        dictionary = self.sudachi or installed_dictionary()
        return {"kenlm": self.kenlm, **({"sudachi": dictionary} if dictionary else {})}

    def paragraph_scores(self, documents: Documents, wanted: np.ndarray) -> np.ndarray:
        """(paragraphs,) float64 mean log10 probability of the paragraphs of the mask, 0 for the others."""
        from tasks.curation.uzushio.word_scores import scores_of

        key = f"kenlm {self.kenlm} {self.sudachi} {self.outliers} {self.as_upstream}"
        if key not in documents.memo:
            documents.memo[key] = scores_of(self, documents, wanted)
        return documents.memo[key]


def installed_dictionary() -> Path | None:
    """The dictionary file of the package sudachidict_core, None if it is not installed."""
    package = find_spec("sudachidict_core")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "resources" / "system.dic"


class KenLMDocAvgPerplexity(LanguageModel, RatioStage):
    """Mean perplexity of the paragraphs, weighted by their lengths."""

    unit: ClassVar[str] = "mean perplexity"
    scale: ClassVar[Scale] = "count"

    name: Literal["KenLMDocAvgPerplexity"] = "KenLMDocAvgPerplexity"
    high: float = Field(default=1e6, description="Largest perplexity that stays.")

    def scores(self, documents: Documents, alive: np.ndarray) -> np.ndarray:
        import numpy as np

        from tasks.curation.uzushio.frequencies import weighted_mean

        wanted = documents.alive & alive[documents.owner]
        return weighted_mean(documents, 10 ** -self.paragraph_scores(documents, wanted)).astype(np.float32)


class KenLMParagraphPerplexity(LanguageModel, MarkingStage):
    """Removes runs of paragraphs of a high perplexity, as LargeFreqParagraphs does with frequent ones."""

    name: Literal["KenLMParagraphPerplexity"] = "KenLMParagraphPerplexity"
    outliers: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="Share of a paragraph's words left out, half of it with the best and half with the worst scores.",
    )
    count: int = Field(default=3, ge=1, description="Paragraphs of high perplexity in a row.")
    threshold: float = Field(default=1e6, gt=0, description="Smallest perplexity that is high.")

    def marks(self, documents: Documents, alive: np.ndarray) -> np.ndarray:
        from tasks.curation.uzushio.runs import marked_runs

        wanted = alive[documents.owner]
        bad = wanted & (self.paragraph_scores(documents, wanted) <= -math.log10(self.threshold))
        return marked_runs(documents, alive, bad, self.count)
