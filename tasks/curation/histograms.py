"""Histograms of scores in bins that do not depend on the data, so that those of shards can be added."""

from __future__ import annotations

import numpy as np

from tasks.curation.filters.base import Scale

NUM_SHARE_BINS = 100
BINS_PER_DECADE = 10
NUM_DECADES = 8


def num_bins(scale: Scale) -> int:
    return NUM_SHARE_BINS + 1 if scale == "share" else 2 + BINS_PER_DECADE * NUM_DECADES


def histogram(scores: np.ndarray, scale: Scale) -> np.ndarray:
    """(bins,) int64 number of scores in each bin of `edges`; what lies outside goes to the first or last bin."""
    if scale == "share":
        places = np.floor(scores * NUM_SHARE_BINS + 1e-9)
    else:
        places = 1 + np.floor(np.log10(np.maximum(scores, 0.1)) * BINS_PER_DECADE + 1e-9)
        places[scores < 1] = 0
    places = np.clip(np.nan_to_num(places, posinf=1e9, neginf=0), 0, num_bins(scale) - 1)
    return np.bincount(places.astype(np.int64), minlength=num_bins(scale))


def edges(scale: Scale) -> np.ndarray:
    """(bins,) float64 lower edge of each bin: hundredths up to 1, or 0 and then tenths of a decade from 1 to 10^8."""
    if scale == "share":
        return np.arange(NUM_SHARE_BINS + 1) / NUM_SHARE_BINS
    return np.concatenate(([0.0], 10 ** (np.arange(1 + BINS_PER_DECADE * NUM_DECADES) / BINS_PER_DECADE)))
