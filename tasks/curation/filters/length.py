"""Documents that are too short or too long."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, which a type checker cannot see.
from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tasks.curation.filters.base import Filter, Scale

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class Length(Filter):
    """Number of Unicode code points, white space included.

    Unit: characters. Default: at least 100, no upper bound (the workshop recipe sets 4,096). Source: the brief's
    limits for `ja_wiki`, 100 to 4,096 characters; Uzushio's DocLength counts UTF-16 units instead.
    """

    unit: ClassVar[str] = "characters"
    scale: ClassVar[Scale] = "count"

    filter: Literal["length"] = "length"
    min_characters: int = Field(default=100, ge=0, description="Fewest characters that stay.")
    max_characters: int | None = Field(default=None, ge=0, description="Most characters that stay; none for no bound.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError(f"max_characters {self.max_characters} is below min_characters {self.min_characters}")
        return self

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return self.min_characters, self.max_characters

    def scores(self, texts: pa.Array) -> np.ndarray:
        import pyarrow.compute as pc

        return pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype("float64")
