"""The language model on a device: it adds up the model's rows, the host decides by them."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np

from tasks.curation.engines.device import Kernels
from tasks.curation.fasttext_model import DIMENSIONS
from tasks.curation.language_lines import Lines
from tasks.curation.language_probabilities import Classifier, RowSums


class DeviceRowSums:
    """`sum_rows` of language_probabilities.py: the same sums to the last bit.

    turn: held by the thread that works on the device.
    """

    def __init__(self, device: Kernels, turn: Lock) -> None:
        self._device, self._turn = device, turn
        self._known: tuple[Classifier, tuple[Any, ...]] | None = None

    def __call__(self, lines: Lines, classifier: Classifier) -> RowSums:
        with self._turn:
            return self._sums(lines, classifier)

    def _sums(self, lines: Lines, classifier: Classifier) -> RowSums:
        xp, num_lines = self._device.xp, len(lines.starts)
        sums = xp.empty((num_lines, DIMENSIONS), dtype=np.float32)
        num_rows = xp.empty(num_lines, dtype=np.int32)
        sent = *map(xp.asarray, lines), np.int64(num_lines)
        arguments = *sent, *self._model(classifier), np.int32(classifier.end_row), sums, num_rows
        self._device.run("sum_rows", num_lines, *arguments, threads=DIMENSIONS)
        return RowSums(self._device.to_host(sums), self._device.to_host(num_rows))

    def _model(self, classifier: Classifier) -> tuple[Any, ...]:
        """What the kernel takes of a model; the last one stays on the device."""
        if self._known is None or self._known[0] is not classifier:
            slots, *words = map(self._device.xp.asarray, classifier.vocabulary)
            ngrams = map(self._device.xp.asarray, classifier.ngrams)
            numbers = slots, np.int64(len(slots)), *words, *ngrams, self._device.xp.asarray(classifier.rows)
            self._known = classifier, numbers
        return self._known[1]
