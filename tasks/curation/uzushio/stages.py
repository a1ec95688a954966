"""All filters of Uzushio by name, as one union for the config."""

from __future__ import annotations

import typing
from typing import Annotated

from pydantic import Field

from tasks.curation.uzushio.compression import CompressionRate
from tasks.curation.uzushio.frequencies import (
    AdjacentDuplicateParagraphs,
    DeduplicateDocuments,
    DeduplicateDocumentsPercentile,
    DuplicateDocumentsLengthWeighted,
    DuplicateParagraphs,
    LargeFreqParagraphs,
)
from tasks.curation.uzushio.html_paths import MarkdownizeHeading, MergeListTag, NoContentDOM
from tasks.curation.uzushio.lengths import DocLength, HiraganaRatio, LinkCharRatio
from tasks.curation.uzushio.perplexity import KenLMDocAvgPerplexity, KenLMParagraphPerplexity
from tasks.curation.uzushio.stage import UzushioStage
from tasks.curation.uzushio.word_lists import WordInstances, WordTypes

AnyStage = (
    DocLength
    | HiraganaRatio
    | LinkCharRatio
    | CompressionRate
    | WordTypes
    | WordInstances
    | KenLMDocAvgPerplexity
    | KenLMParagraphPerplexity
    | DuplicateParagraphs
    | DeduplicateDocuments
    | DeduplicateDocumentsPercentile
    | DuplicateDocumentsLengthWeighted
    | LargeFreqParagraphs
    | AdjacentDuplicateParagraphs
    | MergeListTag
    | MarkdownizeHeading
    | NoContentDOM
)
StageSpec = Annotated[AnyStage, Field(discriminator="name")]

STAGES_BY_NAME: dict[str, type[UzushioStage]] = {stage.__name__: stage for stage in typing.get_args(AnyStage)}
