"""Filter configs by name: whole cascades with the normalisation that belongs to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.curation.config import FilterConfig, NormalizationConfig
from tasks.curation.filters.uzushio import Uzushio
from tasks.curation.uzushio.compression import CompressionRate
from tasks.curation.uzushio.frequencies import DeduplicateDocumentsPercentile, LargeFreqParagraphs
from tasks.curation.uzushio.html_paths import MarkdownizeHeading, MergeListTag, NoContentDOM
from tasks.curation.uzushio.lengths import DocLength, HiraganaRatio, LinkCharRatio
from tasks.curation.uzushio.perplexity import KenLMDocAvgPerplexity, KenLMParagraphPerplexity
from tasks.curation.uzushio.word_lists import WordTypes

WITH_MARKERS = NormalizationConfig(remove_control_characters=False, strip_trailing_spaces=False)
"""Leaves U+0002 and U+0003 around links, U+001C behind paths, and white space, which Uzushio counts."""


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
