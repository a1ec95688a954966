"""Runs of paragraphs that a filter takes for bad, and what of them goes."""

from __future__ import annotations

import numba
import numpy as np

from tasks.curation.uzushio.paragraphs import Documents


def marked_runs(documents: Documents, alive: np.ndarray, big: np.ndarray, count: int) -> np.ndarray:
    """(paragraphs,) bool: the alive paragraphs that go because of `count` big ones in a row.

    big: (paragraphs,) bool, removed ones included. A paragraph goes if all of the `count` that end at it are big, or
    all that start at it; windows end at the edges of the document. With it go the alive big ones among the `count`
    before it, whatever lies between.
    """
    marks = np.zeros(len(big), dtype=bool)
    if big.any():
        _mark(documents.bounds, documents.alive & alive[documents.owner], big, count, marks)
    return marks


@numba.njit(cache=True, nogil=True)
def _mark(bounds, alive, big, count, marks):
    for document in range(len(bounds) - 1):
        start, stop = bounds[document], bounds[document + 1]
        for place in range(start, stop):
            if not alive[place] or not big[place]:
                continue
            before = big[max(start, place - count + 1) : place + 1].all()
            behind = big[place : min(stop, place + count)].all()
            if before or behind:
                marks[place] = True
                for earlier in range(max(start, place - count), place):
                    if alive[earlier] and big[earlier]:
                        marks[earlier] = True
