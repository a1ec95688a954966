"""Documents whose lines are no sentences: menus, listings, keywords."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.base import Filter

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class SentenceEndRatio(Filter):
    """Share of the lines that are not blank that end with a sentence end.

    A sentence end is one of 。．！？ in any width, or a closing bracket or quotation mark (」』）and others, whatever
    stands in it), as the last character that is not white space; an ellipsis is none. Unit: share from 0 to 1.
    Default: at least 0.12. Source: FineWeb (Penedo et al. 2024, more than 0.12 of the lines end with punctuation). Of
    2,815 real documents with a twentieth of hiragana 95 % are above 0.14; those below 0.12 are menus and lists of
    options. Encyclopedia articles with many tables and short list items fall below it too: use less, or none, on
    them.
    """

    unit: ClassVar[str] = "share of lines that end a sentence"

    filter: Literal["sentence_end_ratio"] = "sentence_end_ratio"
    min_ratio: float = Field(default=0.12, ge=0, le=1, description="Smallest share of lines that end a sentence.")

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return self.min_ratio, None

    def scores(self, texts: pa.Array) -> np.ndarray:
        import numpy as np

        from tasks.curation.line_shapes import line_ends

        ends = line_ends(texts)
        return ends.num_sentence_ends / np.maximum(ends.num_lines, 1)
