"""The filters by name: one module each, a union for the config, and the cascade that is used if none is given."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.curation.filters.duplicate_lines import DuplicateLines
from tasks.curation.filters.hiragana_ratio import HiraganaRatio
from tasks.curation.filters.language import Language
from tasks.curation.filters.length import Length
from tasks.curation.filters.repetition import Repetition
from tasks.curation.filters.symbol_ratio import SymbolRatio

FilterSpec = Annotated[
    Length | SymbolRatio | Language | HiraganaRatio | Repetition | DuplicateLines, Field(discriminator="filter")
]


def default_cascade(*, max_characters: int | None = None) -> tuple[FilterSpec, ...]:
    """All filters with their defaults: what is cheap and says most about a document comes first."""
    return (
        Length(max_characters=max_characters),
        SymbolRatio(),
        Language(),
        HiraganaRatio(),
        Repetition(),
        DuplicateLines(),
    )
