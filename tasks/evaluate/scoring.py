"""How likely a causal language model finds a text: sums of -ln p in nats, whatever the batching."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from transformers import PreTrainedModel

from tasks.models.loading import embedding_rows

MAX_LOGITS = 1 << 27
"""Logits of one batch (half a gigabyte in fp32), so that a large vocabulary gets smaller batches."""
IGNORED = -100


class Row(NamedTuple):
    """Token ids of one forward pass; the first num_given (at least one) are shown and not scored."""

    ids: list[int]
    num_given: int


@dataclass(frozen=True)
class TextScore:
    """Sum of -ln p over num_tokens tokens, which spell num_characters Unicode characters of num_documents texts."""

    nats: float
    num_tokens: int
    num_characters: int
    num_documents: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.num_tokens

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))  # a float ends at e**709

    @property
    def bits_per_character(self) -> float:
        """Comparable between tokenizers, which loss and perplexity are not."""
        return self.nats / math.log(2) / self.num_characters


def score_texts(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    sequence_length: int,
    context_tokens: int = 0,
    batch_tokens: int = 8192,
) -> TextScore:
    """The score of whole texts, each preceded by the start token, so that its first token counts too.

    sequence_length: tokens of a window; context_tokens: how many tokens of the window before are shown again, unscored.
    batch_tokens bounds memory and does not change the result beyond rounding.
    """
    start = start_token_id(tokenizer)
    rows, num_tokens = [], 0
    for ids in encode(tokenizer, texts):
        rows += windows([start, *ids], sequence_length, context_tokens)
        num_tokens += len(ids)
    nats = math.fsum(negative_log_likelihoods(model, rows, batch_tokens))
    return TextScore(nats, num_tokens, sum(map(len, texts)), len(texts))


def encode(tokenizer: Any, texts: Iterable[str]) -> list[list[int]]:
    """Token ids of each text without anything added; a control token written in a text stays plain text."""
    texts = list(texts)
    # Only the ids are asked for, so the tokenizer's warning that a text exceeds the model's length has no ground.
    return (
        tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        if texts
        else []
    )


def start_token_id(tokenizer: Any) -> int:
    """What stands before a document: the tokenizer's own beginning, else the end-of-document token as in training."""
    if tokenizer.bos_token_id is not None:
        return tokenizer.bos_token_id
    return tokenizer.get_vocab().get("<|endoftext|>", tokenizer.eos_token_id)


def windows(ids: list[int], sequence_length: int, context_tokens: int) -> list[Row]:
    """Rows of at most sequence_length inputs that score every token of `ids` but the first exactly once."""
    assert 0 <= context_tokens < sequence_length
    rows, scored = [], 1
    while scored < len(ids):
        begin = max(0, scored - 1 - context_tokens)
        end = min(len(ids), begin + sequence_length + 1)
        rows.append(Row(ids[begin:end], scored - begin))
        scored = end
    return rows


def negative_log_likelihoods(model: PreTrainedModel, rows: Sequence[Row], batch_tokens: int) -> list[float]:
    """For each row the sum of -ln p of its scored tokens, in nats."""
    limit = min(batch_tokens, max(1, MAX_LOGITS // embedding_rows(model)))
    results = [0.0] * len(rows)
    with torch.inference_mode():
        for batch in _batches(rows, limit):
            for index, nats in zip(batch, _score(model, [rows[i] for i in batch]), strict=True):
                results[index] = nats
    return results


def _batches(rows: Sequence[Row], limit: int) -> list[list[int]]:
    """Indices of rows of similar length, padded to at most `limit` tokens together (one row may exceed it)."""
    batches: list[list[int]] = []
    for index in sorted(range(len(rows)), key=lambda i: -len(rows[i].ids)):
        if not batches or (len(batches[-1]) + 1) * len(rows[batches[-1][0]].ids) > limit:
            batches.append([])
        batches[-1].append(index)
    return batches


def _score(model: PreTrainedModel, rows: list[Row]) -> list[float]:
    # Padding stands on the right, where a causal model's scored tokens cannot see it: no attention mask is needed.
    length = max(len(row.ids) for row in rows) - 1
    inputs = torch.zeros(len(rows), length, dtype=torch.long)
    targets = torch.full((len(rows), length), IGNORED)
    for place, row in enumerate(rows):
        ids = torch.tensor(row.ids)
        inputs[place, : len(ids) - 1] = ids[:-1]
        targets[place, row.num_given - 1 : len(ids) - 1] = ids[row.num_given :]
    logits = model(input_ids=inputs.to(model.device), use_cache=False).logits
    nats = F.cross_entropy(
        logits.float().flatten(0, 1), targets.to(model.device).flatten(), ignore_index=IGNORED, reduction="none"
    )
    return nats.view(len(rows), length).double().sum(1).tolist()
