"""The data of a training as torch batches: packed tokens for pretraining, prompt and response pairs for LoRA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from data_contracts.errors import DataError, ModelError
from tasks.training.packing import PackedDataset

IGNORED = -100
"""Target that no loss is computed for."""


class Batch(NamedTuple):
    """input_ids (samples, tokens) int64; targets (samples, tokens) int64: the token that follows each, or IGNORED."""

    input_ids: torch.Tensor
    targets: torch.Tensor

    @property
    def num_targets(self) -> int:
        return int((self.targets != IGNORED).sum())

    def to(self, device: str) -> Batch:
        return self if device == "cpu" else Batch(*(t.pin_memory().to(device, non_blocking=True) for t in self))


class TrainingData(Protocol):
    """Batches computable from the step alone, so that the data position is one integer."""

    samples_per_epoch: int

    def micro_batches(self, step: int) -> list[Batch]:
        """The micro-batches of optimizer step `step`, from 1."""
        ...

    def validation(self) -> list[Batch]:
        """The same micro-batches each time."""
        ...


class PackedBatches:
    """Micro-batches of packed tokens. validation_batches: how many of the first validation samples' batches."""

    def __init__(
        self, train: PackedDataset, validation: PackedDataset | None, micro: int, per_step: int, num_validation: int
    ) -> None:
        self.samples_per_epoch = train.samples_per_epoch
        self._train, self._validation = train, validation
        self._micro, self._per_step, self._num_validation = micro, per_step, num_validation

    def micro_batches(self, step: int) -> list[Batch]:
        first = (step - 1) * self._per_step
        return [_packed(self._train.samples(first + n, self._micro)) for n in range(0, self._per_step, self._micro)]

    def validation(self) -> list[Batch]:
        if self._validation is None:
            return []
        count = min(self._num_validation * self._micro, self._validation.samples_per_epoch)
        starts = range(0, count, self._micro)
        return [_packed(self._validation.samples(n, min(self._micro, count - n))) for n in starts]


class Pair(NamedTuple):
    """tokens: prompt, response and end-of-sequence ids; prompt_length: how many of them are the prompt."""

    tokens: list[int]
    prompt_length: int


class PairBatches:
    """Micro-batches of pairs, shuffled per epoch, padded on the right to the longest of each micro-batch.

    Causal attention never looks at padding on the right, so no mask is needed. Within a step the pairs are ordered by
    length, which leaves the step's gradient what it is and saves most of the padding.
    """

    def __init__(
        self, train: list[Pair], validation: list[Pair], micro: int, per_step: int, num_validation: int, seed: int
    ) -> None:
        self.samples_per_epoch = len(train)
        self._train, self._validation = train, validation[: num_validation * micro]
        self._micro, self._per_step, self._seed = micro, per_step, seed
        self._epoch, self._order = -1, np.zeros(0, dtype=np.int64)

    def micro_batches(self, step: int) -> list[Batch]:
        first = (step - 1) * self._per_step
        pairs = sorted((self._pair(first + n) for n in range(self._per_step)), key=lambda pair: len(pair.tokens))
        return [_padded(pairs[n : n + self._micro]) for n in range(0, self._per_step, self._micro)]

    def validation(self) -> list[Batch]:
        starts = range(0, len(self._validation), self._micro)
        return [_padded(self._validation[n : n + self._micro]) for n in starts]

    def _pair(self, number: int) -> Pair:
        epoch, position = divmod(number, len(self._train))
        if epoch != self._epoch:
            seed = np.random.SeedSequence([self._seed, epoch])
            self._order = np.random.Generator(np.random.PCG64(seed)).permutation(len(self._train))
            self._epoch = epoch
        return self._train[self._order[position]]


class PairCounts(NamedTuple):
    """What became of the rows of a file of pairs."""

    pairs: int
    truncated: int
    dropped: int


def read_pairs(path: Path, tokenizer: Any, max_tokens: int) -> tuple[list[Pair], PairCounts]:
    """The tokenized pairs of a JSONL of {"prompt", "response"}, and how many were cut or dropped.

    A pair of more than max_tokens is cut at the end of its response; one whose prompt leaves no room for a response is
    dropped. Text that spells a control token stays text. Raises DataError if no pair is left.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(f"`{path}`: the tokenizer has no end-of-sequence token", hint="set eos_token in its config")
    pairs, truncated, dropped = [], 0, 0
    for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n"):
        row = json.loads(line)
        prompt = tokenizer(row["prompt"], split_special_tokens=True).input_ids
        if prompt and prompt[-1] == tokenizer.eos_token_id:
            prompt = prompt[:-1]  # some tokenizers end every text; here the response follows
        response = tokenizer(row["response"], add_special_tokens=False, split_special_tokens=True).input_ids
        tokens = [*prompt, *response, tokenizer.eos_token_id]
        if len(prompt) >= max_tokens:
            dropped += 1
            continue
        truncated += len(tokens) > max_tokens
        pairs.append(Pair(tokens[:max_tokens], len(prompt)))
    if not pairs:
        raise DataError(
            f"`{path}`: none of {dropped} pairs fits {max_tokens} tokens", hint="raise sequence_length of the tuning"
        )
    return pairs, PairCounts(len(pairs), truncated, dropped)


def _packed(samples: np.ndarray) -> Batch:
    tokens = torch.from_numpy(samples)
    return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def _padded(pairs: list[Pair]) -> Batch:
    width = max(len(pair.tokens) for pair in pairs) - 1
    input_ids = torch.zeros(len(pairs), width, dtype=torch.int64)
    targets = torch.full((len(pairs), width), IGNORED, dtype=torch.int64)
    for row, pair in enumerate(pairs):
        tokens = torch.tensor(pair.tokens)
        input_ids[row, : len(tokens) - 1] = tokens[:-1]
        first = max(pair.prompt_length - 1, 0)
        targets[row, first : len(tokens) - 1] = tokens[first + 1 :]
    return Batch(input_ids, targets)
