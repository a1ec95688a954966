"""Documents whose paragraphs are copies of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.base import Filter

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class DuplicateParagraphs(Filter):
    """Share of the characters of a document that stand in paragraphs equal to an earlier one of it.

    A paragraph is what stands between blank lines. Characters are those that are not white space, and paragraphs are
    compared by them, so that line breaks and indents make no difference. Where each line is a paragraph (8 of 3,762
    real documents have a blank line at all) `duplicate_lines` is the filter to use. Unit: share from 0 to 1. Default:
    at most 0.2. Source: the duplicate paragraph character fraction of Gopher (Rae et al. 2021, A1.1) and of Swallow
    (Okazaki et al. 2024).
    """

    unit: ClassVar[str] = "share in repeated paragraphs"

    filter: Literal["duplicate_paragraphs"] = "duplicate_paragraphs"
    max_ratio: float = Field(default=0.2, ge=0, le=1, description="Largest share in repeated paragraphs that stays.")

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return None, self.max_ratio

    def scores(self, texts: pa.Array) -> np.ndarray:
        from tasks.curation.repeats import repeated_paragraph_share

        return repeated_paragraph_share(texts)
