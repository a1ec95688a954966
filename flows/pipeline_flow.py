"""The whole pipeline: corpus, training, evaluation, delivery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_contracts.artifacts import Delivery
from flows.corpus_flow import corpus_story
from flows.recipes import PipelineConfig
from flows.running import run_story
from flows.story_flow import story_flow
from flows.training_flow import training_story
from tasks.stages import DELIVER, EVALUATE


def pipeline_story(config: PipelineConfig, run: Any) -> Delivery:
    """From a Japanese corpus and a base model to a verified Hugging Face model and its proofs."""
    data = corpus_story(config, run)
    models = training_story(config, run, data)
    evaluation = run(
        EVALUATE,
        config.evaluate,
        base=data.base,
        continued=models.continued,
        tuned=models.tuned,
        corpus=data.corpus,
        raw=data.raw,
        instructions=models.instructions,
    )
    return run(DELIVER, config.deliver, **data._asdict(), **models._asdict(), evaluation=evaluation)


@story_flow("pipeline")
def pipeline(
    config: PipelineConfig, store: Path | None = None, until: str | None = None, rebuild_from: str | None = None
) -> None:
    """From a Japanese corpus and a base model to a verified Hugging Face model and its proofs."""
    run_story(pipeline_story, config, store, until, rebuild_from)
