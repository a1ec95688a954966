"""Documents with too few or too many words."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tasks.curation.filters.base import Filter, Scale

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class WordCount(Filter):
    """Number of words: MeCab's short units by the dictionary unidic-lite, punctuation included.

    Needs the optional packages of the extra `words`. Unit: words. Default: 10 to 2,048. Source: the brief's limits for
    NeMo Curator, whose WordCountFilter counts MeCab units for Japanese too.
    """

    unit: ClassVar[str] = "words"
    scale: ClassVar[Scale] = "count"

    holds_lock: ClassVar[bool] = True

    filter: Literal["word_count"] = "word_count"
    min_words: int = Field(default=10, ge=0, description="Fewest words that stay.")
    max_words: int | None = Field(default=2048, ge=0, description="Most words that stay; none for no bound.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_words is not None and self.max_words < self.min_words:
            raise ValueError(f"max_words {self.max_words} is below min_words {self.min_words}")
        return self

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return self.min_words, self.max_words

    def scores(self, texts: pa.Array) -> np.ndarray:
        import numpy as np

        from tasks.curation.words import split_words

        counts = (len(split_words(text, self.filter)) for text in texts.to_pylist())
        return np.fromiter(counts, dtype=np.float64, count=len(texts))
