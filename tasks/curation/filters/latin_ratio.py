"""Documents with too many Latin letters: code, file names, other languages."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.bounded_share import BoundedShare

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class LatinRatio(BoundedShare):
    """Share of Latin letters among the characters that are not white space.

    Latin letters are A to Z, letters with diacritics up to U+024F and in U+1E00 to U+1EFF, phonetic letters and the
    Latin extensions C to E, ligatures, and full-width forms (U+FF21 to U+FF5A). Digits, punctuation and Roman
    numerals of a single code point are none. Unit: share from 0 to 1. Default: at most 0.8. Source: ours; 99.5 % of
    2,799 technical documents that are Japanese to `language` are below it. Swallow (Okazaki et al. 2024) asks for
    half of the characters to be Japanese; 0.5 here would cost 28 % of those documents, which are full of commands and
    names.
    """

    unit: ClassVar[str] = "share of Latin letters"

    filter: Literal["latin_ratio"] = "latin_ratio"
    max_ratio: float = Field(default=0.8, ge=0, le=1, description="Largest share of Latin letters that stays.")

    def scores(self, texts: pa.Array) -> np.ndarray:
        from tasks.curation.characters import LATIN, share_of

        return share_of(texts, LATIN)
