"""The training half: continual pretraining, LoRA, merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from data_contracts.artifacts import Adapter, HfModel, InstructionSet
from flows.corpus_flow import CorpusResult, corpus_story
from flows.recipes import PipelineConfig
from flows.running import run_story
from flows.story_flow import story_flow
from tasks.stages import EXPORT, INSTRUCTIONS, LORA, NEMO_CHECKPOINT, PRETRAIN


class TrainingResult(NamedTuple):
    continued: HfModel
    instructions: InstructionSet
    adapter: Adapter
    tuned: HfModel


def training_story(config: PipelineConfig, run: Any, data: CorpusResult) -> TrainingResult:
    """From a base model and token files to a merged model."""
    start = {"base": data.base, "tokens": data.tokens}
    if config.pretrain.backend == "nemo":
        start["nemo_checkpoint"] = run(NEMO_CHECKPOINT, config.nemo_checkpoint, base=data.base)
    continued = run(PRETRAIN, config.pretrain, **start)
    instructions = run(INSTRUCTIONS, config.instructions, raw=data.raw, corpus=data.corpus)
    adapter = run(LORA, config.lora, model=continued, instructions=instructions)
    tuned = run(EXPORT, config.export, base=data.base, continued=continued, adapter=adapter)
    return TrainingResult(continued, instructions, adapter, tuned)


@story_flow("training")
def training(
    config: PipelineConfig, store: Path | None = None, until: str | None = None, rebuild_from: str | None = None
) -> None:
    """From a base model and the corpus (cached where it was made before) to a merged model."""

    def story(config: PipelineConfig, run: Any) -> TrainingResult:
        return training_story(config, run, corpus_story(config, run))

    run_story(story, config, store, until, rebuild_from)
