"""Documents with too little hiragana to be Japanese sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.bounded_share import BoundedShare

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class HiraganaRatio(BoundedShare):
    """Share of hiragana (U+3040 to U+309F) among the characters that are not white space.

    Particles and inflections are hiragana, so lists of names, keywords and Chinese text have little of it. Unit: share
    from 0 to 1. Default: at least 0.05. Source: the sentence selection of the NINJAL web corpus (nwc-toolkit: less
    than 5 % hiragana without spaces is dropped); Swallow (Okazaki et al. 2024) asks for 0.2 on web pages, which would
    cost encyclopedia articles with many tables; Uzushio's HiraganaRatio counts white space as well.
    """

    unit: ClassVar[str] = "share of hiragana"

    filter: Literal["hiragana_ratio"] = "hiragana_ratio"
    min_ratio: float = Field(default=0.05, ge=0, le=1, description="Smallest share of hiragana that stays.")

    def scores(self, texts: pa.Array) -> np.ndarray:
        from tasks.curation.characters import HIRAGANA, share_of

        return share_of(texts, HIRAGANA)
