"""Documents made of emoji."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.base import Filter

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class EmojiRatio(Filter):
    """Share of the characters of emoji among those that are not white space.

    Each code point of an emoji counts: pictures and regional indicators (Emoji_Presentation); signs that are text by
    default (Emoji, such as ☀ and ❤) only before U+FE0F, a skin tone, or behind a joiner; keycaps with their digit;
    and joiners, selectors and tags inside a sequence. A picture before U+FE0E is text. ★, ♪ and ※ are symbols, not
    emoji. Ranges: emoji-data.txt of Unicode 18.0. Unit: share from 0 to 1. Default: at most 0.1. Source: the
    symbol-to-word ratio of Gopher (Rae et al. 2021, at most 0.1), on characters; 3,762 real technical documents hold
    no emoji at all.
    """

    unit: ClassVar[str] = "share of emoji"

    filter: Literal["emoji_ratio"] = "emoji_ratio"
    max_ratio: float = Field(default=0.1, ge=0, le=1, description="Largest share of emoji that stays.")

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return None, self.max_ratio

    def scores(self, texts: pa.Array) -> np.ndarray:
        from tasks.curation.emoji import emoji_share

        return emoji_share(texts)
