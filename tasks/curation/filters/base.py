"""What every filter is: parameters, one score per document, bounds, and a sentence that tells why a document went."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class Filter(BaseModel, ABC):
    """The parameters of one filter; a document stays when lower <= score <= upper of `bounds`.

    A subclass has a field `filter` with its name as the only value. Modules of filters import pydantic alone, so that a
    config is read without numpy or numba; the kernels are imported where a score is asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: ClassVar[str]
    filter: str

    @property
    @abstractmethod
    def bounds(self) -> tuple[float | None, float | None]:
        """The smallest and the largest score that stay; None for no bound on that side."""

    @abstractmethod
    def scores(self, texts: pa.Array) -> np.ndarray:
        """(documents,) float64 score of each text, in `unit`; finite for any text, the empty one included."""

    def reason(self, score: float, threshold: float) -> str:
        """One sentence with the figure and the bound that it broke."""
        lower, _ = self.bounds
        side, name = ("below", "minimum") if lower is not None and score < lower else ("above", "maximum")
        return f"{self.filter}: {score:.6g} {self.unit}, {side} the {name} of {threshold:.6g}"
