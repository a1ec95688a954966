"""Documents with too much katakana: product names, keywords, listings."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.bounded_share import BoundedShare

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class KatakanaRatio(BoundedShare):
    """Share of katakana among the characters that are not white space.

    Katakana are the letters U+30A1 to U+30FA, the long vowel mark U+30FC (also after hiragana) and the iteration
    marks up to U+30FF, the small letters for Ainu (U+31F0 to U+31FF), half-width forms with their voicing marks
    (U+FF66 to U+FF9F) and the katakana of the kana supplement; not the middle dot, and not squared or circled words.
    Unit: share from 0 to 1. Default: at most 0.5. Source: Swallow (Okazaki et al. 2024), which divides by the
    Japanese letters instead; of 2,815 real documents with a twentieth of hiragana 99 % are below 0.39, and two help
    pages are above 0.5.
    """

    unit: ClassVar[str] = "share of katakana"

    filter: Literal["katakana_ratio"] = "katakana_ratio"
    max_ratio: float = Field(default=0.5, ge=0, le=1, description="Largest share of katakana that stays.")

    def scores(self, texts: pa.Array) -> np.ndarray:
        from tasks.curation.characters import KATAKANA, share_of

        return share_of(texts, KATAKANA)
