"""The corpus half: acquire, filter, dedup, split, binarize."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from data_contracts.artifacts import Corpus, HfModel, RawCorpus, TokenDataset
from flows.recipes import PipelineConfig
from flows.running import run_story
from flows.story_flow import story_flow
from tasks.stages import ACQUIRE, BASE_MODEL, BINARIZE, DEDUP, FILTER, SPLIT


class CorpusResult(NamedTuple):
    raw: RawCorpus
    filtered: Corpus
    unique: Corpus
    corpus: Corpus
    base: HfModel
    tokens: TokenDataset


def corpus_story(config: PipelineConfig, run: Any) -> CorpusResult:
    """From a source to Megatron token files."""
    raw = run(ACQUIRE, config.source)
    filtered = run(FILTER, config.filters, raw=raw)
    unique = run(DEDUP, config.dedup, corpus=filtered)
    corpus = run(SPLIT, config.split, corpus=unique)
    base = run(BASE_MODEL, config.model)
    tokens = run(BINARIZE, config.binarize, corpus=corpus, tokenizer=base.tokenizer)
    return CorpusResult(raw, filtered, unique, corpus, base, tokens)


@story_flow("corpus")
def corpus(
    config: PipelineConfig, store: Path | None = None, until: str | None = None, rebuild_from: str | None = None
) -> None:
    """From a source to Megatron token files, every document and token accounted for."""
    run_story(corpus_story, config, store, until, rebuild_from)
