"""The filters by name: one module each, a union for the config, and the cascade that is used if none is given."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tasks.curation.filters.boilerplate import BoilerplateShare, RemoveBoilerplateLines
from tasks.curation.filters.compression_ratio import CompressionRatio
from tasks.curation.filters.duplicate_lines import DuplicateLines
from tasks.curation.filters.duplicate_paragraphs import DuplicateParagraphs
from tasks.curation.filters.ellipsis_lines import EllipsisLines
from tasks.curation.filters.emoji_ratio import EmojiRatio
from tasks.curation.filters.hiragana_ratio import HiraganaRatio
from tasks.curation.filters.kanji_ratio import KanjiRatio
from tasks.curation.filters.katakana_ratio import KatakanaRatio
from tasks.curation.filters.language import Language
from tasks.curation.filters.latin_ratio import LatinRatio
from tasks.curation.filters.length import Length
from tasks.curation.filters.list_ratio import ListRatio
from tasks.curation.filters.mask_personal_data import MaskPersonalData
from tasks.curation.filters.ng_words import NgWords
from tasks.curation.filters.perplexity import Perplexity
from tasks.curation.filters.repetition import Repetition
from tasks.curation.filters.sentence_end_ratio import SentenceEndRatio
from tasks.curation.filters.symbol_ratio import SymbolRatio
from tasks.curation.filters.top_ngram import TopNgram
from tasks.curation.filters.url_density import UrlDensity
from tasks.curation.filters.uzushio import Uzushio
from tasks.curation.filters.uzushio_jar import UzushioJar
from tasks.curation.filters.wikipedia_leftovers import WikipediaLeftovers
from tasks.curation.filters.word_count import WordCount

FilterSpec = Annotated[
    Length
    | SymbolRatio
    | Language
    | HiraganaRatio
    | Repetition
    | DuplicateLines
    | CompressionRatio
    | DuplicateParagraphs
    | EllipsisLines
    | EmojiRatio
    | KanjiRatio
    | KatakanaRatio
    | LatinRatio
    | ListRatio
    | SentenceEndRatio
    | TopNgram
    | UrlDensity
    | BoilerplateShare
    | RemoveBoilerplateLines
    | MaskPersonalData
    | NgWords
    | Perplexity
    | WikipediaLeftovers
    | WordCount
    | Uzushio
    | UzushioJar,
    Field(discriminator="filter"),
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
