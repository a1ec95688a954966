"""Fixed-length samples that cross documents, each computable from its number alone, with exact token accounting."""

from __future__ import annotations

import math

import numpy as np

from data_contracts.errors import DataError
from data_contracts.token_files import TokenFile


class PackedDataset:
    """The endless sequence of samples of a token file.

    In each epoch the documents are put in a new order and joined to one stream of N tokens. Sample j of the stream is
    its tokens [j * sequence_length, (j + 1) * sequence_length], one more than is trained on, so every token but the
    stream's first and its last `tokens_left_over` is predicted exactly once an epoch, the first token of a document
    from the end-of-document token before it. The samples are then shuffled too. Both orders depend on seed and epoch
    alone. Raises DataError if there is not one whole sample, or a document does not end with `eod`.
    """

    def __init__(self, token_file: TokenFile, sequence_length: int, seed: int, eod: int) -> None:
        self.token_file = token_file
        self.sequence_length = sequence_length
        self.seed = seed
        self.samples_per_epoch = max(0, token_file.num_tokens - 1) // sequence_length
        self.tokens_per_epoch = self.samples_per_epoch * sequence_length
        self.tokens_left_over = token_file.num_tokens - 1 - self.tokens_per_epoch
        if not self.samples_per_epoch:
            raise DataError(
                f"`{token_file.data_path}`: {token_file.num_tokens} tokens, expected at least {sequence_length + 1}",
                hint="lower sequence_length or use more documents (for validation: a larger validation share)",
            )
        _check_ends(token_file, eod)
        self._epoch = -1
        self._documents = self._stream_starts = self._samples = np.zeros(0, dtype=np.int64)

    def sample(self, number: int) -> np.ndarray:
        """Token ids (sequence_length + 1,) int64 of sample `number`, counted from 0 through all epochs."""
        epoch, position = divmod(number, self.samples_per_epoch)
        if epoch != self._epoch:
            self._shuffle(epoch)
        return self._window(int(self._samples[position]) * self.sequence_length, self.sequence_length + 1)

    def samples(self, start: int, count: int) -> np.ndarray:
        """Samples start, start + 1, ...: token ids (count, sequence_length + 1) int64."""
        return np.stack([self.sample(number) for number in range(start, start + count)])

    def tokens_consumed(self, num_samples: int) -> int:
        """Tokens predicted in the first `num_samples` samples."""
        return num_samples * self.sequence_length

    def _shuffle(self, epoch: int) -> None:
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
        self._documents = generator.permutation(len(self.token_file))
        self._samples = generator.permutation(self.samples_per_epoch)
        self._stream_starts = np.zeros(len(self.token_file), dtype=np.int64)
        np.cumsum(self.token_file.lengths[self._documents[:-1]], dtype=np.int64, out=self._stream_starts[1:])
        self._epoch = epoch

    def _window(self, start: int, length: int) -> np.ndarray:
        """Tokens [start, start + length) of the epoch's stream, as int64."""
        window = np.empty(length, dtype=np.int64)
        place = int(np.searchsorted(self._stream_starts, start, side="right")) - 1
        offset, filled = start - int(self._stream_starts[place]), 0
        while filled < length:
            piece = self.token_file[self._documents[place]][offset : offset + length - filled]
            window[filled : filled + len(piece)] = piece
            filled, place, offset = filled + len(piece), place + 1, 0
        return window


def steps_of_epochs(epochs: float, samples_per_epoch: int, global_batch_size: int) -> int:
    """Optimizer steps that see at least `epochs` passes over the data: rounded up, at least one."""
    return max(1, math.ceil(epochs * samples_per_epoch / global_batch_size))


def _check_ends(token_file: TokenFile, eod: int) -> None:
    last = token_file.tokens[token_file.starts + token_file.lengths - 1]
    wrong = np.flatnonzero(last != eod)
    if len(wrong):
        raise DataError(
            f"`{token_file.data_path}`: document {wrong[0]} ends with token {last[wrong[0]]}, expected the "
            f"end-of-document token {eod} ({len(wrong)} such documents)",
            hint="binarize with the base model's tokenizer and its end-of-document token",
        )
