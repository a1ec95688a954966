"""Documents with too many or too few kanji to be Japanese sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.bounded_share import BoundedShare

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class KanjiRatio(BoundedShare):
    """Share of kanji among the characters that are not white space.

    Kanji are the unified ideographs with extension A (U+3400 to U+4DBF, U+4E00 to U+9FFF), the compatibility
    ideographs (U+F900 to U+FAFF), all of planes 2 and 3 (extensions B and later), and the marks used like them: 々,
    〆, 〇 and 〻. Radicals, squared and circled forms are symbols. Unit: share from 0 to 1. Default: at most 0.7, no
    lower bound. Source: ours; no published cascade sets one. Chinese prose has 0.8 and more, of 2,815 real documents
    with a twentieth of hiragana the densest has 0.36. A lower bound of 0.01 finds text for small children, and kana
    salad.
    """

    unit: ClassVar[str] = "share of kanji"

    filter: Literal["kanji_ratio"] = "kanji_ratio"
    max_ratio: float = Field(default=0.7, ge=0, le=1, description="Largest share of kanji that stays.")

    def scores(self, texts: pa.Array) -> np.ndarray:
        from tasks.curation.characters import KANJI, share_of

        return share_of(texts, KANJI)
