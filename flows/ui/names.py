"""What flow runs and task runs are called in the UI: recipe, step, corpus and model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from flows.recipes import PipelineConfig
from tasks.acquire.config import HuggingFaceSource, LlmJpSource, LocalSource
from tasks.models.config import HUB_SOURCE, ModelConfig

MAX_NAME_CHARACTERS = 60


def corpus_name(source: BaseModel) -> str:
    """`ja_wiki`, `ja_wiki + ja_cc/level2`, `wikimedia/wikipedia`, `sample`, or a local source's name or folder."""
    if isinstance(source, LlmJpSource):
        return _cut(" + ".join(folder.path.partition("/")[2] or folder.path for folder in source.folders))
    if isinstance(source, HuggingFaceSource):
        return _cut(" ".join(filter(None, (source.dataset.rstrip("/"), source.config_name))))
    if isinstance(source, LocalSource):
        return _cut(source.path.name if source.name == "local" else source.name)
    return str(getattr(source, "kind", "corpus"))


def model_name(model: ModelConfig) -> str:
    """`Qwen2.5-0.5B` for a model of the hub, the folder's name for a local one, or `tiny`."""
    if found := HUB_SOURCE.match(model.source):
        return _cut(found["name"].rpartition("/")[2])
    return _cut(model.path.name) if model.path is not None else model.source


def title_of(config: PipelineConfig) -> str:
    """Corpus and model, as in `ja_wiki x Qwen2.5-0.5B`; in ASCII, as the font of the UI's timeline has nothing else."""
    return f"{corpus_name(config.source)} x {model_name(config.model)}"


def run_name(flow: str) -> Callable[[], str]:
    """A `flow_run_name`: recipe, flow, corpus and model, and where the run stops or rebuilds, if it does.

    As in `demo: pipeline, sample → tiny` or `demo: pipeline until split, sample → tiny`.
    """

    def name() -> str:
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        parameters = context.parameters or {} if context else {}
        return named(flow, parameters)

    return name


def named(flow: str, parameters: dict[str, Any]) -> str:
    """The name for a flow's parameters; the flow's own where the config is not one that the tree accepts."""
    config = parameters.get("config")
    if not isinstance(config, PipelineConfig):
        return flow
    step = flow
    if until := parameters.get("until"):
        step += f" until {until}"
    if rebuild_from := parameters.get("rebuild_from"):
        step += f" from {rebuild_from}"
    return f"{config.recipe}: {step}, {corpus_name(config.source)} → {model_name(config.model)}"


def _cut(name: str) -> str:
    """Short enough for a row of the UI. Prefect formats names with `{}`: no brace of a path may reach it."""
    plain = "".join(character if character.isprintable() and character not in "{}" else "_" for character in name)
    return plain if len(plain) <= MAX_NAME_CHARACTERS else plain[: MAX_NAME_CHARACTERS - 1] + "…"
