"""Scores of filters by a device: it counts, the host divides, so that each score is the float64 of the local engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tasks.curation.characters import HIRAGANA, KANJI, KATAKANA, LATIN, SPACE, SYMBOL, character_classes, text_buffers
from tasks.curation.emoji import emoji_classes
from tasks.curation.engines.device import Kernels, ends_of
from tasks.curation.engines.device_language import DeviceRowSums
from tasks.curation.filters.base import Filter, Step
from tasks.curation.filters.language import Language
from tasks.curation.line_shapes import end_classes, item_classes
from tasks.curation.links import byte_classes

PORTION_BYTES = 16 << 20
"""Text that is counted at once; tables of repeats take up to 50 times as much, mostly 10 times."""

LONGEST_BYTES = 16 << 10
"""One thread goes through a document, and all wait for the longest: a core is faster at longer ones."""

NUM_CLASSES = 6
CHARACTERS, EMOJI, LINES, SENTENCE_ENDS, ELLIPSES, LINE_FEEDS = range(NUM_CLASSES, NUM_CLASSES + 6)
"""Rows of what `count_characters` counts, behind those of the classes."""


class Tables(NamedTuple):
    """What all documents are counted by.

    kinds: (0x110000,) uint32, as score_kernels.cu has it; bytes: (256,) uint8; turn: held by the thread that works on
    the device.
    """

    kinds: Any
    bytes: Any
    sum_rows: DeviceRowSums
    turn: Lock


class DeviceScores:
    """Scores texts for steps of a cascade; threads take turns."""

    def __init__(self, device: Kernels) -> None:
        self._device = device
        turn = Lock()
        classes = (character_classes(), emoji_classes(), end_classes(), item_classes())
        kinds = sum(table.astype(np.uint32) << np.uint32(8 * place) for place, table in enumerate(classes))
        numbers = device.xp.asarray(kinds), device.xp.asarray(byte_classes())
        self._tables = Tables(*numbers, DeviceRowSums(device, turn), turn)

    def __call__(self, steps: Sequence[Step], texts: pa.Array) -> dict[int, np.ndarray]:
        """The scores of those steps that a device can score, by their place, up to the first that is no filter.

        Behind that one, texts may be others.
        """
        wanted = {}
        for place, step in enumerate(steps):
            if not isinstance(step, Filter):
                break
            if step.filter in SCORES:
                wanted[place] = step
        if not wanted:
            return {}
        is_long = np.diff(text_buffers(texts)[1]) > LONGEST_BYTES
        scored = self._scores(wanted, texts.filter(pa.array(~is_long)) if is_long.any() else texts)
        return {place: _merged(step, scored[place], texts, is_long) for place, step in wanted.items()}

    def _scores(self, wanted: dict[int, Filter], texts: pa.Array) -> dict[int, np.ndarray]:
        _, bounds = text_buffers(texts)
        scores: dict[int, list[np.ndarray]] = {place: [np.zeros(0)] for place in wanted}
        start = 0
        while start < len(texts):
            stop = int(np.searchsorted(bounds, bounds[start] + PORTION_BYTES, side="right")) - 1
            stop = max(stop, start + 1)
            portion = texts.slice(start, stop - start)
            counts = Counts(self._device, self._tables, portion)
            for place, step in wanted.items():
                scores[place].append(SCORES[step.filter](counts, step))
            start = stop
        return {place: np.concatenate(parts) for place, parts in scores.items()}


def _merged(step: Filter, scores: np.ndarray, texts: pa.Array, is_long: np.ndarray) -> np.ndarray:
    """`scores` of the documents that are not long, and between them those of the long ones."""
    if not is_long.any():
        return scores
    merged = np.empty(len(texts))
    merged[~is_long] = scores
    merged[is_long] = step.scores(texts.filter(pa.array(is_long)))
    return merged


class Slots(NamedTuple):
    """Room for a hash table of each document. bounds: (documents + 1,) int64; values: uint64; marks: uint32 zeroes."""

    bounds: Any
    values: Any
    marks: Any


class Counts:
    """What is counted in documents, each when it is first asked for; arrays are int32, on the host."""

    def __init__(self, device: Kernels, tables: Tables, texts: pa.Array) -> None:
        self._device, self._tables, self._on_host = device, tables, texts
        self.num_documents = len(texts)
        data, bounds = text_buffers(texts)
        with tables.turn:
            self._texts = *self._sent(data[bounds[0] : bounds[-1]], bounds - bounds[0]), np.int64(len(texts))
            counts = device.xp.empty((NUM_CLASSES + 6, len(texts)), dtype=np.int32)
            device.run("count_characters", len(texts), *self._texts, tables.kinds, counts)
            self._visible = counts[CHARACTERS] - counts[_row_of(SPACE)]
            self.characters, self.visible = device.to_host(counts), device.to_host(self._visible)

    def list_lines(self) -> np.ndarray:
        """(documents,) items of lists and rows of tables."""
        return self._counted("count_list_lines", 1, self._tables.kinds)[0]

    def in_addresses(self) -> np.ndarray:
        """(documents,) characters in web and e-mail addresses."""
        return self._counted("count_addresses", 1, self._tables.bytes)[0]

    def repeated_ngrams(self, ngram: int, window: int) -> np.ndarray:
        """(2, documents): n-grams, and those that occurred before in their window."""
        slots = self._slots(self.visible.clip(max=window), 1)
        numbers = np.int32(ngram), np.int32(window)
        return self._counted("count_repeated_ngrams", 2, self._tables.kinds, self._visible, *numbers, *slots)

    def in_top_ngrams(self, ngram: int, window: int) -> np.ndarray:
        """(documents,) characters that the most frequent n-gram of each window covers."""
        slots = self._slots(self.visible.clip(max=window), 3)
        numbers = np.int32(ngram), np.int32(window)
        return self._counted("count_top_ngrams", 1, self._tables.kinds, self._visible, *numbers, *slots)[0]

    def repeated_lines(self) -> np.ndarray:
        """(2, documents): bytes of lines, and of those that occurred before."""
        return self._counted("count_repeated_lines", 2, *self._slots(self.characters[LINE_FEEDS] + 1, 1))

    def in_repeated_paragraphs(self) -> np.ndarray:
        """(documents,) characters in paragraphs that occurred before."""
        slots = self._slots(self.characters[LINE_FEEDS] + 1, 1)
        return self._counted("count_repeated_paragraphs", 1, self._tables.kinds, *slots)[0]

    def languages(self, step: Language) -> np.ndarray:
        """(documents,) scores of the step."""
        return step.scores_by(self._tables.sum_rows, self._on_host)

    def _slots(self, most: np.ndarray, marks: int) -> Slots:
        """Twice as many slots as a document has entries at most, and one; each with so many marks."""
        with self._tables.turn:
            (sizes,) = self._sent(2 * most + 1)
            bounds = ends_of(self._device, sizes)
            size = int(bounds[-1])
            zeros = self._device.xp.zeros(size * marks, dtype=np.uint32)
            return Slots(bounds, self._device.xp.empty(size, dtype=np.uint64), zeros)

    def _counted(self, kernel: str, num_rows: int, *arguments: Any) -> np.ndarray:
        with self._tables.turn:
            counts = self._device.xp.empty((num_rows, self.num_documents), dtype=np.int32)
            self._device.run(kernel, self.num_documents, *self._texts, *arguments, counts)
            return self._device.to_host(counts)

    def _sent(self, *arrays: np.ndarray) -> tuple[Any, ...]:
        return tuple(map(self._device.xp.asarray, arrays))


def _row_of(bit: int) -> int:
    return bit.bit_length() - 1


def _share(hits: np.ndarray, total: np.ndarray) -> np.ndarray:
    """(documents,) float64; 0 where there is nothing."""
    return hits / np.maximum(total, 1)


def _share_of(bit: int) -> Callable[[Counts, Any], np.ndarray]:
    return lambda counts, step: _share(counts.characters[_row_of(bit)], counts.visible)


def _share_of_lines(row: int) -> Callable[[Counts, Any], np.ndarray]:
    return lambda counts, step: _share(counts.characters[row], counts.characters[LINES])


def _repetition(counts: Counts, step: Any) -> np.ndarray:
    window = max(step.window_characters, step.ngram_characters)
    total, repeated = counts.repeated_ngrams(step.ngram_characters, window)
    return _share(repeated, total)


def _top_ngram(counts: Counts, step: Any) -> np.ndarray:
    window = max(step.window_characters, step.ngram_characters)
    return _share(counts.in_top_ngrams(step.ngram_characters, window), counts.visible)


def _duplicate_lines(counts: Counts, step: Any) -> np.ndarray:
    total, repeated = counts.repeated_lines()
    return _share(repeated, total)


SCORES: dict[str, Callable[[Counts, Any], np.ndarray]] = {
    "length": lambda counts, step: counts.characters[CHARACTERS].astype(np.float64),
    "hiragana_ratio": _share_of(HIRAGANA),
    "katakana_ratio": _share_of(KATAKANA),
    "kanji_ratio": _share_of(KANJI),
    "latin_ratio": _share_of(LATIN),
    "symbol_ratio": _share_of(SYMBOL),
    "emoji_ratio": lambda counts, step: _share(counts.characters[EMOJI], counts.visible),
    "url_density": lambda counts, step: _share(counts.in_addresses(), counts.visible),
    "sentence_end_ratio": _share_of_lines(SENTENCE_ENDS),
    "ellipsis_lines": _share_of_lines(ELLIPSES),
    "list_ratio": lambda counts, step: _share(counts.list_lines(), counts.characters[LINES]),
    "language": lambda counts, step: counts.languages(step),
    "repetition": _repetition,
    "top_ngram": _top_ngram,
    "duplicate_lines": _duplicate_lines,
    "duplicate_paragraphs": lambda counts, step: _share(counts.in_repeated_paragraphs(), counts.visible),
}
"""By the name of the filter."""
