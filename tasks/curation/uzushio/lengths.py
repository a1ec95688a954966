"""Filters by length and by kinds of characters: DocLength, HiraganaRatio, LinkCharRatio."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tasks.curation.filters.base import Scale
from tasks.curation.uzushio.stage import Bounds, RatioStage, ScoreStage, ratio

if TYPE_CHECKING:
    import numpy as np

    from tasks.curation.uzushio.paragraphs import Documents

MAX_INT = 2**31 - 1


class DocLength(ScoreStage):
    """Sum of the lengths of all paragraphs, in UTF-16 code units, without the blank lines between them."""

    unit: ClassVar[str] = "characters (UTF-16 units)"
    scale: ClassVar[Scale] = "count"

    name: Literal["DocLength"] = "DocLength"
    low: int = Field(default=0, description="Fewest UTF-16 units that stay.")
    high: int = Field(default=MAX_INT, description="Most UTF-16 units that stay.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"high {self.high} is below low {self.low}")
        return self

    @property
    def bounds(self) -> Bounds:
        return self.low, self.high if self.high < MAX_INT else None

    def scores(self, documents: Documents, alive: np.ndarray) -> np.ndarray:
        return documents.total(documents.units.all)


class HiraganaRatio(RatioStage):
    """Units in U+3040..U+309F over all units: the long vowel mark and katakana of any width are not hiragana."""

    unit: ClassVar[str] = "share of hiragana"

    name: Literal["HiraganaRatio"] = "HiraganaRatio"

    def scores(self, documents: Documents, alive: np.ndarray) -> np.ndarray:
        return ratio(documents.total(documents.units.hiragana), documents.total(documents.units.all))


class LinkCharRatio(RatioStage):
    """Units between link markers over all units, the markers in neither; an open link ends with its paragraph."""

    unit: ClassVar[str] = "share of link text"

    name: Literal["LinkCharRatio"] = "LinkCharRatio"

    def scores(self, documents: Documents, alive: np.ndarray) -> np.ndarray:
        units = documents.units
        return ratio(documents.total(units.linked), documents.total(units.all - units.markers))
