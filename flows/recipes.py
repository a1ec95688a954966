"""The config tree, and the recipes: functions that return a complete one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_contracts.errors import UsageError
from tasks.acquire.config import LlmJpSource, SampleSource, SourceConfig
from tasks.binarize import BinarizeConfig
from tasks.curation.config import DedupConfig, FilterConfig, SplitConfig
from tasks.curation.filters import default_cascade
from tasks.deliver.config import DeliverConfig
from tasks.evaluate.config import EvaluateConfig
from tasks.models.config import ExportConfig, ModelConfig, NemoImportConfig
from tasks.runtime import WandbConfig
from tasks.training.config import InstructionsConfig, LoraConfig, PretrainConfig


def _require_nothing(schema: dict[str, Any]) -> None:
    """The recipe fills what is missing, so Prefect's form must not ask for it."""
    schema.pop("required", None)


class PipelineConfig(BaseModel):
    """Everything that decides what a run makes. `recipe` fills what is not given."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_require_nothing)

    recipe: str = Field(default="demo", description="Recipe that fills every field that is not given.")
    source: SourceConfig = Field(description="Where documents come from.")
    filters: FilterConfig = Field(description="Normalisation and the cascade of filters.")
    dedup: DedupConfig = Field(description="Exact and fuzzy deduplication.")
    split: SplitConfig = Field(description="Train and validation.")
    model: ModelConfig = Field(description="The base model to continue.")
    binarize: BinarizeConfig = Field(description="Documents to Megatron token files.")
    nemo_checkpoint: NemoImportConfig = Field(description="The base model in NeMo's format, for backend nemo.")
    pretrain: PretrainConfig = Field(description="Continual pretraining.")
    instructions: InstructionsConfig = Field(description="Prompt and response pairs for LoRA.")
    lora: LoraConfig = Field(description="LoRA tuning.")
    export: ExportConfig = Field(description="Merging the adapter.")
    evaluate: EvaluateConfig = Field(description="Comparing base, continued and tuned.")
    deliver: DeliverConfig = Field(description="The folder handed over.")
    wandb: WandbConfig = Field(description="Experiment tracking; never part of an identity.")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_recipe(cls, given: Any) -> Any:
        if not isinstance(given, dict) or set(cls.model_fields) <= set(given):
            return given
        from flows.configuration import merged

        return merged(recipe_values(given.get("recipe", "demo")), given)


def demo() -> dict[str, Any]:
    """The bundled sample and a tiny model: the whole pipeline in minutes on two cores."""
    on_cpu: dict[str, Any] = {"device": "cpu", "precision": "fp32", "micro_batch_size": 8, "global_batch_size": 8}
    often: dict[str, Any] = {
        "log_every_steps": 10,
        "validate_every_steps": 50,
        "validation_batches": 4,
        "checkpoint_every_steps": 100,
    }
    return {
        "source": SampleSource(),
        "filters": FilterConfig(),
        "dedup": DedupConfig(),
        "split": SplitConfig(),
        "model": ModelConfig(source="tiny"),
        "binarize": BinarizeConfig(),
        "nemo_checkpoint": NemoImportConfig(),
        "pretrain": PretrainConfig(
            **on_cpu,
            **often,
            sequence_length=64,
            max_steps=900,
            learning_rate=3e-3,
            min_learning_rate=1.5e-4,
            warmup_steps=40,
            expect_pretrained=False,
        ),
        "instructions": InstructionsConfig(),
        "lora": LoraConfig(
            **on_cpu,
            **often,
            sequence_length=512,
            max_steps=250,
            learning_rate=1e-3,
            min_learning_rate=1e-4,
            warmup_steps=20,
            base_name="tsuzuki-tiny",
        ),
        "export": ExportConfig(),
        "evaluate": EvaluateConfig(),
        "deliver": DeliverConfig(name="tsuzuki-demo"),
        "wandb": WandbConfig(),
    }


QWEN = "hf://Qwen/Qwen2.5-0.5B"
WANDB_TAGS = ("qwen2.5-0.5b", "japanese", "workshop")


def workshop_qwen25_05b() -> dict[str, Any]:
    """The workshop: 100,000 documents of ja_wiki, Qwen2.5-0.5B, 1,000 pretraining and 500 LoRA steps on one GPU."""
    return {
        "source": LlmJpSource(max_documents=100_000),
        "filters": FilterConfig(cascade=default_cascade(max_characters=4096)),
        "dedup": DedupConfig(),
        "split": SplitConfig(validation_share=0.05),
        "model": ModelConfig(source=QWEN, licence="Apache-2.0", attribution="Qwen2.5-0.5B by Alibaba Cloud."),
        "binarize": BinarizeConfig(prefix="ja_wiki_"),
        "nemo_checkpoint": NemoImportConfig(),
        "pretrain": PretrainConfig(),
        "instructions": InstructionsConfig(kind="template"),
        "lora": LoraConfig(base_name="Qwen/Qwen2.5-0.5B"),
        "export": ExportConfig(),
        "evaluate": EvaluateConfig(device="cuda", dtype="bfloat16", prompt_tokens=512),
        "deliver": DeliverConfig(name="qwen25_0.5b_lora"),
        "wandb": WandbConfig(tags=WANDB_TAGS),
    }


def workshop_qwen25_05b_nemo() -> dict[str, Any]:
    """The workshop on NeMo 2.0: its recipe qwen25_500m for pretraining and LoRA, through NeMo-Run."""
    return workshop_qwen25_05b() | {
        "pretrain": PretrainConfig(backend="nemo"),
        "lora": LoraConfig(backend="nemo", base_name="Qwen/Qwen2.5-0.5B"),
        "wandb": WandbConfig(tags=("nemo2.0", *WANDB_TAGS)),
    }


def ja_wiki_qwen25_05b() -> dict[str, Any]:
    """All of ja_wiki with its own validation shard, one epoch counted in the token files, Qwen2.5-0.5B."""
    workshop = workshop_qwen25_05b()
    return workshop | {
        "source": LlmJpSource(),
        "filters": FilterConfig(),
        "split": SplitConfig(keep_source_validation=True),
        "pretrain": PretrainConfig(max_steps=None, epochs=1.0, warmup_steps=200, validate_every_steps=500),
    }


RECIPES: dict[str, Callable[[], dict[str, Any]]] = {
    "demo": demo,
    "workshop-qwen25-0.5b": workshop_qwen25_05b,
    "workshop-qwen25-0.5b-nemo": workshop_qwen25_05b_nemo,
    "ja-wiki-qwen25-0.5b": ja_wiki_qwen25_05b,
}


def recipe_values(name: str) -> dict[str, Any]:
    """The complete config of a recipe as plain JSON values. Raises UsageError for an unknown name."""
    if name not in RECIPES:
        raise UsageError(
            f"`{name}`: no such recipe, expected one of {', '.join(RECIPES)}", hint="see `tsuzuki recipes`"
        )
    sections = RECIPES[name]()
    return {"recipe": name, **{key: value.model_dump(mode="json") for key, value in sections.items()}}
