"""Filter configs by name: whole cascades with the normalisation that belongs to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.curation.config import FilterConfig, NormalizationConfig, Preset
from tasks.curation.filters.compression_ratio import CompressionRatio
from tasks.curation.filters.duplicate_lines import DuplicateLines
from tasks.curation.filters.duplicate_paragraphs import DuplicateParagraphs
from tasks.curation.filters.ellipsis_lines import EllipsisLines
from tasks.curation.filters.emoji_ratio import EmojiRatio
from tasks.curation.filters.hiragana_ratio import HiraganaRatio as Hiragana
from tasks.curation.filters.kanji_ratio import KanjiRatio
from tasks.curation.filters.katakana_ratio import KatakanaRatio
from tasks.curation.filters.language import Language
from tasks.curation.filters.latin_ratio import LatinRatio
from tasks.curation.filters.length import Length
from tasks.curation.filters.list_ratio import ListRatio
from tasks.curation.filters.repetition import Repetition
from tasks.curation.filters.sentence_end_ratio import SentenceEndRatio
from tasks.curation.filters.symbol_ratio import SymbolRatio
from tasks.curation.filters.top_ngram import TopNgram
from tasks.curation.filters.url_density import UrlDensity
from tasks.curation.filters.uzushio import Uzushio
from tasks.curation.filters.wikipedia_leftovers import WikipediaLeftovers
from tasks.curation.uzushio.compression import CompressionRate
from tasks.curation.uzushio.frequencies import DeduplicateDocumentsPercentile, LargeFreqParagraphs
from tasks.curation.uzushio.html_paths import MarkdownizeHeading, MergeListTag, NoContentDOM
from tasks.curation.uzushio.lengths import DocLength, HiraganaRatio, LinkCharRatio
from tasks.curation.uzushio.perplexity import KenLMDocAvgPerplexity, KenLMParagraphPerplexity
from tasks.curation.uzushio.word_lists import WordTypes

WITH_MARKERS = NormalizationConfig(remove_control_characters=False, strip_trailing_spaces=False)
"""Leaves U+0002 and U+0003 around links, U+001C behind paths, and white space, which Uzushio counts."""


def wikipedia() -> FilterConfig:
    """Light: encyclopedia text that was cleaned before, as LLM-JP's, of which little should go.

    Of 3,762 real documents of software documentation 743 go as not Japanese and 42 for another reason.
    """
    return FilterConfig(
        cascade=(
            WikipediaLeftovers(),
            Length(min_characters=50),
            SymbolRatio(max_ratio=0.3),
            Language(min_probability=0.5),
            Hiragana(min_ratio=0.02),
            CompressionRatio(min_ratio=0.15, max_ratio=None),
            TopNgram(max_ratio=0.35),
            Repetition(max_ratio=0.7),
            DuplicateLines(max_ratio=0.5),
        )
    )


def web() -> FilterConfig:
    """Strict: pages of the open web, where most text is no prose.

    Bounds in the spirit of Swallow (Okazaki et al. 2024) and Gopher (Rae et al. 2021); each filter's docstring names
    its own source.
    """
    return FilterConfig(
        cascade=(
            Length(min_characters=200),
            Language(),
            SymbolRatio(max_ratio=0.1),
            EmojiRatio(max_ratio=0.05),
            UrlDensity(max_ratio=0.15),
            Hiragana(min_ratio=0.1),
            KatakanaRatio(max_ratio=0.4),
            KanjiRatio(max_ratio=0.6),
            LatinRatio(max_ratio=0.5),
            SentenceEndRatio(min_ratio=0.12),
            EllipsisLines(max_ratio=0.2),
            ListRatio(max_ratio=0.7),
            CompressionRatio(min_ratio=0.3, max_ratio=1.0),
            DuplicateLines(max_ratio=0.2),
            DuplicateParagraphs(max_ratio=0.2),
            TopNgram(max_ratio=0.2),
            Repetition(max_ratio=0.3),
        )
    )


def uzushio_03a(
    *,
    kenlm: Path | None = None,
    sudachi: Path | None = None,
    adult_words: Path | None = None,
    discriminating_words: Path | None = None,
) -> FilterConfig:
    """The filters of Uzushio's `pipeline_03a.conf` in order: 24 of them if all files are given.

    Without a KenLM model the four perplexity filters are left out, without a word list those that read it (two for
    adult words, one for discriminating ones); the labels number the filters that are left. `sudachi`: none for the
    installed dictionary. Texts leave as text only, without paths and link markers.
    """
    perplexity: dict[str, Any] = {"kenlm": kenlm, "sudachi": sudachi, "outliers": 0.1}
    paragraph_perplexity = [
        KenLMParagraphPerplexity(**perplexity, count=3, threshold=1e6),
        KenLMParagraphPerplexity(**perplexity, count=2, threshold=5e6),
    ] if kenlm else []  # fmt: skip
    document_perplexity = [
        KenLMDocAvgPerplexity(**perplexity, low=5, high=1e6),
        KenLMDocAvgPerplexity(**perplexity, low=7, high=5e5),
    ] if kenlm else []  # fmt: skip
    adult = [WordTypes(list=adult_words, threshold=threshold) for threshold in (9, 6)] if adult_words else []
    discriminating = [WordTypes(list=discriminating_words, threshold=9)] if discriminating_words else []
    stages = (
        DocLength(low=50),
        DeduplicateDocumentsPercentile(expected=5, percentile=0.05),
        HiraganaRatio(low=0.1, high=2.0),
        HiraganaRatio(low=0.15, high=2.0),
        LinkCharRatio(low=0, high=0.8),
        LinkCharRatio(low=0, high=0.4),
        MergeListTag(),
        MarkdownizeHeading(),
        NoContentDOM(),
        LargeFreqParagraphs(count=3, freq=1000),
        LargeFreqParagraphs(count=3, freq=100),
        *paragraph_perplexity,
        CompressionRate(low=0.25, high=5.0),
        CompressionRate(low=0.40, high=0.75),
        CompressionRate(low=0.50, high=0.75),
        *document_perplexity,
        *adult,
        *discriminating,
        DocLength(low=200),
        DeduplicateDocumentsPercentile(expected=2.5, percentile=0.05),
        DeduplicateDocumentsPercentile(expected=1.5, percentile=0.1),
    )
    return FilterConfig(normalization=WITH_MARKERS, cascade=(Uzushio(stages=stages),))


PRESETS: dict[Preset, Callable[[], FilterConfig]] = {
    "default": FilterConfig,
    "wikipedia": wikipedia,
    "web": web,
    "uzushio-03a": uzushio_03a,
}


def preset_values(name: str) -> dict[str, Any]:
    """Normalisation and cascade of a preset. Raises ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"found preset {name!r}, expected one of {', '.join(PRESETS)}")
    values = PRESETS[name]()
    return {"normalization": values.normalization, "cascade": values.cascade}
