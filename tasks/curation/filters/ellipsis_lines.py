"""Documents made of cut lines: teasers, search results, lists of headlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.base import Filter

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class EllipsisLines(Filter):
    """Share of the lines that are not blank that end with an ellipsis.

    An ellipsis is …, ‥ or ⋯, or three of the same among full stops and middle dots of any width (`...`, ・・・,
    。。。), as the last characters that are not white space. Unit: share from 0 to 1. Default: at most 0.3. Source:
    Gopher (Rae et al. 2021, A1.1, 0.3 of the lines); Swallow (Okazaki et al. 2024) asks for at most 0.2 of the
    sentences. Of 3,762 real documents 99 % are below 0.08 and three above 0.3.
    """

    unit: ClassVar[str] = "share of lines with an ellipsis"

    filter: Literal["ellipsis_lines"] = "ellipsis_lines"
    max_ratio: float = Field(default=0.3, ge=0, le=1, description="Largest share of lines with an ellipsis that stays.")

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return None, self.max_ratio

    def scores(self, texts: pa.Array) -> np.ndarray:
        import numpy as np

        from tasks.curation.line_shapes import line_ends

        ends = line_ends(texts)
        return ends.num_ellipses / np.maximum(ends.num_lines, 1)
