"""Documents made of symbols and emoji instead of words."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.base import Filter

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class SymbolRatio(Filter):
    """Share of symbols among the characters that are not white space.

    A symbol is a character of a Unicode category S* (mathematics, currency, emoji, box drawing, arrows), private use or
    unassigned, a part of an emoji sequence, or one of `# * @ \\ ※ † ‡ •`. Not counted: full-width tilde and the spaced
    voicing marks, which Japanese prose uses as letters do; and sentence punctuation. Unit: share from 0 to 1. Default:
    at most 0.2; the densest of 2,800 real technical documents, tables of operators, reach 0.13. Source: the
    symbol-to-word ratio of Gopher (Rae et al. 2021, at most 0.1), restated for a script without spaces between words.
    """

    unit: ClassVar[str] = "share of symbols"

    filter: Literal["symbol_ratio"] = "symbol_ratio"
    max_ratio: float = Field(default=0.2, ge=0, le=1, description="Largest share of symbols that stays.")

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return None, self.max_ratio

    def scores(self, texts: pa.Array) -> np.ndarray:
        from tasks.curation.characters import SYMBOL, share_of

        return share_of(texts, SYMBOL)
