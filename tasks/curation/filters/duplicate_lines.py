"""Documents whose lines are copies of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.base import Filter

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class DuplicateLines(Filter):
    """Share of the bytes of a document that stand in lines equal to an earlier line of it.

    Lines are compared without ASCII space around them; empty ones are left out. Unit: share from 0 to 1. Default: at
    most 0.3. Source: the duplicate line fractions of Gopher (Rae et al. 2021, A1.1: 0.3 of the lines, 0.2 of their
    characters); the looser figure, because tables and synopses repeat short cells.
    """

    unit: ClassVar[str] = "share in repeated lines"

    filter: Literal["duplicate_lines"] = "duplicate_lines"
    max_ratio: float = Field(default=0.3, ge=0, le=1, description="Largest share in repeated lines that stays.")

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return None, self.max_ratio

    def scores(self, texts: pa.Array) -> np.ndarray:
        from tasks.curation.repeats import repeated_line_share

        return repeated_line_share(texts)
