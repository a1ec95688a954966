"""Documents that say the same thing again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.base import Filter

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class Repetition(Filter):
    """Share of character n-grams that occurred before, white space left out.

    Measured in consecutive windows of `window_characters` and averaged over all n-grams, so that a long document is
    not blamed for its length (n-grams repeat the more the longer a text is). Unit: share from 0 to 1. Default: 10-grams
    (about five words), at most 0.5 in windows of 4,096; of 2,800 real Japanese documents 99 % are below 0.35. Source:
    the duplicate n-gram fractions of Gopher (Rae et al. 2021, A1.1), on characters instead of words because Japanese
    has no spaces between words.
    """

    unit: ClassVar[str] = "share of repeated n-grams"

    filter: Literal["repetition"] = "repetition"
    ngram_characters: int = Field(default=10, ge=1, le=64, description="Characters in an n-gram.")
    window_characters: int = Field(default=4096, ge=64, le=1 << 20, description="Characters in which repeats count.")
    max_ratio: float = Field(default=0.5, ge=0, le=1, description="Largest share of repeated n-grams that stays.")

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return None, self.max_ratio

    def scores(self, texts: pa.Array) -> np.ndarray:
        from tasks.curation.repeats import repeated_ngram_share

        return repeated_ngram_share(texts, self.ngram_characters, self.window_characters)
