"""The worker's side of `tsuzuki generate` for Hugging Face folders: one prompt after the other, each with its time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from data_contracts.errors import ConfigError, ModelError
from tasks.evaluate.generating import GenerationClock, Sampling, continue_prompts, prompt_ids
from tasks.models.loading import context_length, load_model, load_tokenizer, prepare_torch
from tasks.worker import Emit


def answer(
    folder: str,
    adapter: str | None,
    prompts: list[str],
    max_new_tokens: int,
    temperature: float,
    top_k: int,
    seed: int,
    device: str,
    cpu_threads: int,
    *,
    emit: Emit,
) -> None:
    """Emits `loaded` (seconds, device, engine), then for each prompt `answer` (prompt, answer, num_tokens, seconds).

    device: `cpu`, `cuda`, or `auto` for a GPU where there is one. A prompt that leaves no room in the model's context
    loses its beginning, an answer that does not fit its end, and `warning` says so. Raises ConfigError and ModelError.
    """
    prepare_torch(cpu_threads)
    started = time.monotonic()
    device = chosen_device(device)
    model, tokenizer = _load(Path(folder), adapter, device), load_tokenizer(Path(folder))
    seconds = time.monotonic() - started
    emit("loaded", seconds=seconds, device=device, engine=f"transformers {transformers.__version__}")
    torch.manual_seed(seed)
    sampling = Sampling(temperature, top_k)
    for prompt in prompts:
        room = room_for_answer(
            context_length(model), len(prompt_ids(tokenizer, prompt, 1 << 30)), max_new_tokens, prompt, emit
        )
        clock = GenerationClock()
        [text] = continue_prompts(model, tokenizer, [prompt], room, 1, clock, sampling)
        emit("answer", prompt=prompt, answer=text, num_tokens=clock.num_tokens, seconds=clock.seconds)


def chosen_device(wanted: str) -> str:
    """The device to run on. Raises ConfigError for a GPU that is not there."""
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise ConfigError("`--device`: found no CUDA device, expected one", hint="take --device cpu, or run on a GPU")
    return wanted if wanted != "auto" else "cuda" if has_gpu else "cpu"


def room_for_answer(context: int, num_prompt_tokens: int, max_new_tokens: int, prompt: str, emit: Emit) -> int:
    """How many tokens may be written, at least 1, so that prompt and answer fit into the context together."""
    room = max(1, min(max_new_tokens, context - num_prompt_tokens))
    start = prompt if len(prompt) <= 20 else f"{prompt[:20]}…"
    if num_prompt_tokens > context - room:
        emit("warning", message=f"`{start}`: has {num_prompt_tokens} tokens, the model sees {context}; its end is used")
    elif room < max_new_tokens:
        message = (
            f"`{start}`: leaves room for {room} tokens of the {max_new_tokens} asked for; the model sees {context}"
        )
        emit("warning", message=message)
    return room


def _load(folder: Path, adapter: str | None, device: str) -> PreTrainedModel:
    model = load_model(folder, device=device)
    if adapter is None:
        return model
    from peft import PeftModel

    try:
        adapted: Any = PeftModel.from_pretrained(model, adapter, autocast_adapter_dtype=False)
        return adapted.merge_and_unload(safe_merge=True).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"`{adapter}`: does not fit its base `{folder}`: {type(error).__name__}: {str(error).splitlines()[0]}",
            hint="name the model that it was trained on with --base",
        ) from error
