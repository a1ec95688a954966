"""What filters have in common that score a share and keep what lies between two bounds."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tasks.curation.filters.base import Filter


class BoundedShare(Filter):
    """A filter on a share from 0 to 1; the subclass names the share and sets the defaults of both bounds."""

    min_ratio: float = Field(default=0.0, ge=0, le=1, description="Smallest share that stays.")
    max_ratio: float = Field(default=1.0, ge=0, le=1, description="Largest share that stays.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_ratio < self.min_ratio:
            raise ValueError(f"max_ratio {self.max_ratio} is below min_ratio {self.min_ratio}")
        return self

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return self.min_ratio or None, self.max_ratio if self.max_ratio < 1 else None
