"""Texts in comparison form on a device: folded, hashed, and fetched again by the number of their document."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tasks.curation.config import FuzzyConfig
from tasks.curation.engines.device import BLOCK, Device, ends_of
from tasks.curation.engines.expansions import expansions
from tasks.curation.folding import Folded, fold
from tasks.curation.minhash import hash_parameters


class Portion(NamedTuple):
    """Documents in comparison form. codes: uint32 code points; starts, lengths: (documents,) int64 of each in `codes`,
    which also holds what belongs to nobody."""

    codes: Any
    starts: Any
    lengths: Any


def _folded_on_host(device: Device, data: Any, bounds: Any, slow: Any, portion: Portion) -> Portion:
    """The portion with the documents `slow` behind all others."""
    xp = device.xp
    starts = bounds[slow]
    sizes = bounds[slow + 1] - starts
    targets = ends_of(device, sizes)
    texts = xp.empty(int(targets[-1]), dtype=np.uint8)
    arguments = (data, starts, sizes, targets, np.int64(len(slow)), texts)
    device.run("gather_bytes", len(slow), *arguments, threads=BLOCK)
    buffers = (pa.py_buffer(device.to_host(array)) for array in (targets, texts))
    folded = fold(pa.LargeStringArray.from_buffers(len(slow), *buffers))
    new_starts = xp.asarray(folded.bounds[:-1]) + len(portion.codes)
    portion.starts[slow], portion.lengths[slow] = new_starts, xp.asarray(np.diff(folded.bounds))
    return portion._replace(codes=xp.concatenate((portion.codes, xp.asarray(folded.codes))))


def digests_of(device: Device, portion: Portion) -> Any:
    """(documents, 2) uint64: equal for equal comparison forms, and for others with a probability of 2^-128."""
    size = len(portion.starts)
    digests = device.xp.empty((size, 2), dtype=np.uint64)
    device.run("digest", size, *portion, np.int64(size), digests, threads=BLOCK)
    return digests


def band_keys_of(device: Device, portion: Portion, fuzzy: FuzzyConfig) -> Any:
    """(bands, documents) uint64, the transpose of what `band_keys` gives."""
    size = len(portion.starts)
    multipliers, offsets = (device.xp.asarray(parameters) for parameters in hash_parameters(fuzzy))
    keys = device.xp.empty((fuzzy.bands, size), dtype=np.uint64)
    numbers = (np.int32(number) for number in (fuzzy.permutations, fuzzy.rows, fuzzy.bands))
    arguments = (*portion, np.int64(size), np.int32(fuzzy.ngram_characters), multipliers, offsets, *numbers, keys)
    device.run("band_keys", size, *arguments, threads=BLOCK)
    return keys


class FoldedTexts:
    """The comparison forms of all documents, portion after portion.

    They stay on the device as long as half of its memory is free; what comes later waits on the host.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._tables = tuple(device.xp.asarray(table) for table in expansions())
        self._portions: list[Portion] = []
        self._firsts = [0]

    def fold(self, data: Any, bounds: Any) -> Portion:
        """The comparison forms of texts, as `fold` gives them. data, bounds: as in TextBatch.

        Documents with a character whose folding depends on its neighbours are folded by `fold` itself, on the host.
        """
        xp, device, num_bytes = self._device.xp, self._device, len(data)
        table, expansion_bounds, expansion_codes = self._tables
        counts = xp.empty(num_bytes, dtype=np.uint8)
        is_complex = xp.zeros(len(bounds) - 1, dtype=np.uint8)
        text = data, np.int64(num_bytes), table, expansion_bounds
        device.run("fold_count", num_bytes, *text, bounds, np.int64(len(is_complex)), counts, is_complex)
        ends = ends_of(device, counts)
        codes = xp.empty(int(ends[-1]), dtype=np.uint32)
        device.run("fold_write", num_bytes, *text, expansion_codes, ends[1:], codes)
        places = ends[bounds]
        portion = Portion(codes, places[:-1].copy(), xp.diff(places))
        slow = xp.flatnonzero(is_complex)
        return _folded_on_host(device, data, bounds, slow, portion) if len(slow) else portion

    def add(self, portion: Portion) -> None:
        if self._device.free_bytes() < self._device.capacity_bytes // 2:
            portion = portion._replace(codes=self._device.to_host(portion.codes))
        self._portions.append(portion)
        self._firsts.append(self._firsts[-1] + len(portion.starts))

    def followed_by(self, others: Sequence[Folded]) -> FoldedTexts:
        """These documents and others behind them."""
        xp, both = self._device.xp, copy(self)
        both._portions, both._firsts = list(self._portions), list(self._firsts)
        for codes, bounds in others:
            both.add(Portion(*map(xp.asarray, (codes, bounds[:-1], np.diff(bounds)))))
        return both

    def lengths(self) -> np.ndarray:
        """(documents,) int64 characters of each."""
        return np.concatenate([np.zeros(0, np.int64), *(self._device.to_host(p.lengths) for p in self._portions)])

    def take(self, documents: np.ndarray, lengths: np.ndarray) -> tuple[Any, Any]:
        """Code points and bounds of some documents, behind each other in that order, on the device.

        lengths: (documents,) characters of all documents.
        """
        xp = self._device.xp
        bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths[documents])))
        codes = xp.empty(int(bounds[-1]), dtype=np.uint32)
        places = np.searchsorted(self._firsts, documents, side="right") - 1
        for number in np.unique(places).tolist():
            rows, portion = np.flatnonzero(places == number), self._portions[number]
            local, targets = xp.asarray(documents[rows] - self._firsts[number]), xp.asarray(bounds[rows])
            chosen = Portion(xp.asarray(portion.codes), portion.starts[local], portion.lengths[local])
            self._gather(chosen, targets, codes)
        return codes, xp.asarray(bounds)

    def to_host(self, portion: Portion) -> Folded:
        """A portion as `fold` gives it."""
        bounds = ends_of(self._device, portion.lengths)
        codes = self._device.xp.empty(int(bounds[-1]), dtype=np.uint32)
        self._gather(portion, bounds, codes)
        return Folded(self._device.to_host(codes), self._device.to_host(bounds))

    def _gather(self, portion: Portion, targets: Any, codes: Any) -> None:
        size = len(portion.starts)
        self._device.run("gather_codes", size, *portion, targets, np.int64(size), codes, threads=BLOCK)
