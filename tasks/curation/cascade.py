"""A cascade of filters over a batch of texts: the first filter that rejects a document names the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tasks.curation.filters.base import Filter

KEPT = -1


class Verdict(NamedTuple):
    """What a cascade says of each document.

    rejected_by: (documents,) int64 index of the filter in the cascade, or KEPT; score, threshold: (documents,) float64
    of that filter, NaN for kept documents.
    """

    rejected_by: np.ndarray
    score: np.ndarray
    threshold: np.ndarray


def judge(cascade: Sequence[Filter], texts: pa.Array) -> Verdict:
    """The verdict on each text; a filter scores only what all earlier ones kept."""
    size = len(texts)
    verdict = Verdict(np.full(size, KEPT), np.full(size, np.nan), np.full(size, np.nan))
    alive = np.arange(size)
    for index, spec in enumerate(cascade):
        if not len(alive):
            break
        scores = spec.scores(texts if len(alive) == size else texts.take(pa.array(alive)))
        threshold = broken_bound(scores, spec.bounds)
        broken = ~np.isnan(threshold)
        rejected = alive[broken]
        verdict.rejected_by[rejected] = index
        verdict.score[rejected] = scores[broken]
        verdict.threshold[rejected] = threshold[broken]
        alive = alive[~broken]
    return verdict


def broken_bound(scores: np.ndarray, bounds: tuple[float | None, float | None]) -> np.ndarray:
    """(documents,) float64: the bound that each score lies beyond, NaN where it lies within (bounds included)."""
    lower, upper = bounds
    threshold = np.full(len(scores), np.nan)
    if lower is not None:
        threshold[scores < lower] = lower
    if upper is not None:
        threshold[scores > upper] = upper
    return threshold
