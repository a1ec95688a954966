"""The worker's side of stage `evaluate`: measures one model after the other and keeps each result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from data_contracts.errors import ConfigError, DataError
from data_contracts.files import write_whole
from tasks.evaluate.cloze import measure_cloze
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.control_text import CONTROL_TEXTS
from tasks.evaluate.generating import GenerationClock, continue_prompts, measure_questions
from tasks.evaluate.memory import peak_memory_bytes, reset_peak_memory
from tasks.evaluate.scoring import TextScore, encode, score_texts
from tasks.models.loading import context_length, load_model, load_tokenizer, num_parameters, prepare_torch
from tasks.worker import Emit

DIGITS = 6
STEPS = 5


def measure_models(
    config: dict[str, Any], models: dict[str, str], material: str, folder: str, *, emit: Emit
) -> dict[str, Any]:
    """For each model `figures`, `generations` and `speed`; those already in `folder` are taken from there.

    models: folders by name, the base first; its tokenizer decides how many documents fill `max_tokens`.
    """
    settings = EvaluateConfig.model_validate(config)
    _check_device(settings.device)
    prepare_torch(settings.cpu_threads)
    content = json.loads(Path(material).read_text(encoding="utf-8"))
    content["documents"] = within_tokens(Path(next(iter(models.values()))), content["documents"], settings.max_tokens)
    results = {}
    for name, path in models.items():
        kept = Path(folder) / f"{name}.result.json"
        if kept.is_file():
            results[name] = json.loads(kept.read_text(encoding="utf-8"))
            emit("progress", model=name, steps=STEPS)
            continue
        results[name] = measure(settings, Path(path), content, lambda name=name: emit("progress", model=name, steps=1))
        write_whole(kept, json.dumps(results[name], ensure_ascii=False))
    return results


def within_tokens(base: Path, documents: list[str], max_tokens: int) -> list[str]:
    """The first documents that together reach max_tokens, counted by that model's tokenizer; at least one.

    Raises DataError if they hold no token at all.
    """
    chosen, num_tokens = [], 0
    for text, ids in zip(documents, encode(load_tokenizer(base), documents), strict=True):
        if num_tokens >= max_tokens:
            break
        chosen.append(text)
        num_tokens += len(ids)
    if not num_tokens:
        raise DataError("`validation`: its documents hold no token", hint="look at the split and filter stages")
    return chosen


def measure(
    settings: EvaluateConfig, folder: Path, content: dict[str, Any], step_done: Callable[[], None]
) -> dict[str, Any]:
    """Everything about one model. step_done is called after each of its five measurements."""
    reset_peak_memory(settings.device)
    started = time.monotonic()
    model, tokenizer = load_model(folder, settings.dtype, settings.device), load_tokenizer(folder)
    load_seconds = time.monotonic() - started
    figures: dict[str, Any] = {}
    for language, texts in (("japanese", content["documents"]), ("english", CONTROL_TEXTS)):
        figures[language] = text_figures(_score(settings, model, tokenizer, texts))
        step_done()
    figures["cloze"] = measure_cloze(
        model, tokenizer, content["cloze"], batch_tokens=settings.batch_tokens, num_examples=settings.num_examples
    )
    step_done()
    clock = GenerationClock()
    figures["questions"] = measure_questions(model, tokenizer, content["questions"], settings, clock)
    step_done()
    texts = continue_prompts(
        model, tokenizer, settings.prompts, settings.prompt_tokens, settings.generation_batch_size, clock
    )
    step_done()
    figures["num_parameters"] = num_parameters(model)
    speed = {
        "tokens_per_second": round(clock.tokens_per_second, 1),
        "peak_memory_bytes": peak_memory_bytes(settings.device),
        "load_seconds": round(load_seconds, 3),
    }
    generations = [{"prompt": p, "text": t} for p, t in zip(settings.prompts, texts, strict=True)]
    return {"figures": figures, "generations": generations, "speed": speed}


def text_figures(score: TextScore) -> dict[str, float | int]:
    """A score as it stands in evaluation.json."""
    return {
        "loss": round(score.loss, DIGITS),
        "perplexity": round(score.perplexity, DIGITS),
        "bits_per_character": round(score.bits_per_character, DIGITS),
        "num_tokens": score.num_tokens,
        "num_characters": score.num_characters,
        "num_documents": score.num_documents,
    }


def _score(settings: EvaluateConfig, model: PreTrainedModel, tokenizer: Any, texts: Any) -> TextScore:
    sequence_length = min(settings.sequence_length, context_length(model))
    return score_texts(
        model,
        tokenizer,
        texts,
        sequence_length=sequence_length,
        context_tokens=min(settings.context_tokens, sequence_length - 1),
        batch_tokens=settings.batch_tokens,
    )


def _check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`evaluate.device`: found no CUDA device", hint="set evaluate.device to cpu, or run on a GPU")
