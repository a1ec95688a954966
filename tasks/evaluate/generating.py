"""Generation in batches: continuations of prompts, and answers to questions compared word by word."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig, PreTrainedModel

from tasks.evaluate.config import EvaluateConfig
from tasks.models.loading import context_length

DIGITS = 6


class Sampling(NamedTuple):
    """The next token is drawn from the top_k likeliest (0: from all) at that temperature; at 0 it is the likeliest."""

    temperature: float = 0.0
    top_k: int = 1

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0 or self.top_k == 1


GREEDY = Sampling()


class GenerationClock:
    """Tokens written and seconds spent, over several calls."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self.seconds = 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.seconds if self.seconds else 0.0


def continue_prompts(
    model: PreTrainedModel,
    tokenizer: Any,
    prompts: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
    clock: GenerationClock,
    sampling: Sampling = GREEDY,
) -> list[str]:
    """What the model writes after each prompt, up to its end token, without the prompt."""
    texts = [""] * len(prompts)
    rows = [prompt_ids(tokenizer, prompt, context_length(model) - max_new_tokens) for prompt in prompts]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for begin in range(0, len(order), batch_size):
        chosen = order[begin : begin + batch_size]
        started = time.monotonic()
        written = _generate(model, tokenizer, [rows[i] for i in chosen], max_new_tokens, sampling)
        clock.seconds += time.monotonic() - started
        for index, ids in zip(chosen, written, strict=True):
            clock.num_tokens += min(len(ids) + 1, max_new_tokens)  # the end token was written too
            texts[index] = tokenizer.decode(ids, skip_special_tokens=True)
    return texts


def measure_questions(
    model: PreTrainedModel,
    tokenizer: Any,
    questions: Sequence[dict[str, Any]],
    settings: EvaluateConfig,
    clock: GenerationClock,
) -> dict[str, Any] | None:
    """Exact match over {prompt, response} rows after white space at both ends is cut; None without questions.

    begins_right: share of answers that begin with the right one, whatever follows.
    """
    if not questions:
        return None
    answers = continue_prompts(
        model,
        tokenizer,
        [question["prompt"] for question in questions],
        settings.answer_tokens,
        settings.generation_batch_size,
        clock,
    )
    rows = [
        {"prompt": question["prompt"], "expected": question["response"].strip(), "answer": answer.strip()}
        for question, answer in zip(questions, answers, strict=True)
    ]
    return {
        "exact_match": round(sum(row["answer"] == row["expected"] for row in rows) / len(rows), DIGITS),
        "begins_right": round(sum(row["answer"].startswith(row["expected"]) for row in rows) / len(rows), DIGITS),
        "num_questions": len(rows),
        "examples": rows[: settings.num_examples],
    }


def prompt_ids(tokenizer: Any, prompt: str, limit: int) -> list[int]:
    """Ids of a prompt as in tuning (the tokenizer's own beginning, no end token); its end if it is too long."""
    ids = tokenizer(prompt, split_special_tokens=True, verbose=False)["input_ids"]
    if ids and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]
    return (ids or [tokenizer.eos_token_id])[-max(1, limit) :]


def _generate(
    model: PreTrainedModel, tokenizer: Any, rows: list[list[int]], max_new_tokens: int, sampling: Sampling
) -> list[list[int]]:
    """New ids of each row up to the first end token, which is left out."""
    length = max(map(len, rows))
    ends = _end_tokens(model, tokenizer)
    ids = torch.tensor([[tokenizer.eos_token_id] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    drawn = {"temperature": sampling.temperature, "top_k": sampling.top_k}
    # A fresh config: the model's own may ask for other sampling or for penalties, which nobody asked for here.
    wanted = GenerationConfig(
        do_sample=not sampling.is_greedy,
        max_new_tokens=max_new_tokens,
        eos_token_id=ends,
        pad_token_id=tokenizer.eos_token_id,
        **({} if sampling.is_greedy else drawn),
    )
    with torch.inference_mode():
        output: Any = model.generate(  # pyright: ignore[reportCallIssue]
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=wanted
        )
    return [_until(row, ends) for row in output[:, length:].tolist()]


def _until(ids: list[int], ends: list[int]) -> list[int]:
    return ids[: next((place for place, token in enumerate(ids) if token in ends), len(ids))]


def _end_tokens(model: PreTrainedModel, tokenizer: Any) -> list[int]:
    own = model.generation_config.eos_token_id if model.generation_config else None
    more = own if isinstance(own, list) else [own] if own is not None else []
    return sorted({tokenizer.eos_token_id, *more})
