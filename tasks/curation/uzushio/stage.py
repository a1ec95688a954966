"""What a filter of Uzushio is here: its parameters, and what it does to the documents that are still alive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.curation.filters.base import Scale

if TYPE_CHECKING:
    import numpy as np

    from tasks.curation.uzushio.paragraphs import Documents

Bounds = tuple[float | None, float | None]


class Judgement(NamedTuple):
    """scores: (documents,) float64, NaN where not alive; threshold: (documents,) float64, NaN where one may stay."""

    scores: np.ndarray
    threshold: np.ndarray


class Rewritten(NamedTuple):
    """documents: as the stage leaves them; pieces: for each document that changed, how many places and what went."""

    documents: Documents
    pieces: dict[int, tuple[int, list[str]]]


class UzushioStage(BaseModel, ABC):
    """The parameters of one filter; `name` is Uzushio's class name, the other fields its parameters in snake case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reads_frequencies: ClassVar[bool] = False
    rejects: ClassVar[bool] = True
    scale: ClassVar[Scale] = "share"

    name: str

    @property
    def bounds(self) -> Bounds:
        """The smallest and the largest score that stay, where they are the same for every document."""
        return None, None

    def outside_files(self) -> dict[str, Path]:
        """Files of the user that the filter reads, by field."""
        return {}


class DocumentStage(UzushioStage):
    """A filter that looks at a document and removes it whole."""

    unit: ClassVar[str]

    @abstractmethod
    def judge(self, documents: Documents, alive: np.ndarray) -> Judgement:
        """Scores of the documents of the mask `alive`, and the bound that each broke."""

    def reason(self, score: float, threshold: float) -> str:
        """What was measured and which bound it broke."""
        side, bound = ("below", "minimum") if score < threshold else ("above", "maximum")
        return f"{score:.6g} {self.unit}, {side} the {bound} of {threshold:.6g}"


class ScoreStage(DocumentStage):
    """A document stays when low <= score <= high. Score and bounds are 32-bit floats: 0.1 is not below 0.1."""

    @abstractmethod
    def scores(self, documents: Documents, alive: np.ndarray) -> np.ndarray:
        """(documents,) float32 or int64 scores, any value where not alive."""

    def judge(self, documents: Documents, alive: np.ndarray) -> Judgement:
        import numpy as np

        scores = self.scores(documents, alive)
        threshold = np.full(len(alive), np.nan)
        low, high = (None if bound is None else scores.dtype.type(bound) for bound in self.bounds)
        if low is not None:
            threshold[alive & (scores < low)] = low
        if high is not None:
            threshold[alive & (scores > high)] = high
        return Judgement(np.where(alive, scores, np.nan), threshold)


class RatioStage(ScoreStage):
    """A filter with Uzushio's `low` and `high`, both inclusive."""

    low: float = Field(default=0.0, description="Smallest score that stays.")
    high: float = Field(default=1.0, description="Largest score that stays.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"high {self.high} is below low {self.low}")
        return self

    @property
    def bounds(self) -> Bounds:
        return self.low, self.high


class MarkingStage(UzushioStage):
    """A filter that removes paragraphs; a document that has no text left is rejected by it."""

    scale: ClassVar[Scale] = "count"

    @property
    def bounds(self) -> Bounds:
        return 1, None

    @abstractmethod
    def marks(self, documents: Documents, alive: np.ndarray) -> np.ndarray:
        """(paragraphs,) bool: those to remove; only alive ones of the documents of the mask `alive` count."""

    def reason(self, score: float, threshold: float) -> str:
        return f"{score:.6g} characters left (UTF-16 units), below the minimum of {threshold:.6g}"


class RewritingStage(UzushioStage):
    """A filter that rewrites or joins paragraphs and rejects no document."""

    rejects: ClassVar[bool] = False

    @abstractmethod
    def rewrite(self, documents: Documents, alive: np.ndarray) -> Rewritten:
        """The documents with those of the mask `alive` rewritten."""


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """float32 quotients; 0 where either side is 0."""
    import numpy as np

    top, bottom = numerator.astype(np.float32), denominator.astype(np.float32)
    return np.divide(top, bottom, out=np.zeros_like(top), where=(top != 0) & (bottom != 0))
