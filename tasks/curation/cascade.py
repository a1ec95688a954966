"""A cascade of steps over a batch of documents: the first step that rejects a document names the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.curation.filters.base import KEPT, Batch, Step


class Verdict(NamedTuple):
    """What a cascade made of each document.

    texts: (documents,) as the last step that saw them left them; rejected_by: (documents,) int64 index of the step in
    the cascade, or KEPT; label: (documents,) int64 which of that step's labels, KEPT for kept ones; score, threshold:
    (documents,) float64 that decided, NaN for kept ones; scores: by step and label, the (n,) scores of all documents
    that reached it; edits: EDITS rows without `split`, one table for each step that rewrote something; notes: by
    document, what a step adds to the reason of its rejection.
    """

    texts: pa.Array
    rejected_by: np.ndarray
    label: np.ndarray
    score: np.ndarray
    threshold: np.ndarray
    scores: dict[tuple[int, str], np.ndarray]
    edits: list[pa.Table]
    notes: dict[int, str]


def judge(cascade: Sequence[Step], batch: Batch) -> Verdict:
    """The verdict on each document; a step sees only what all earlier ones kept, as they left it."""
    size = len(batch.texts)
    rejected_by, label = np.full(size, KEPT), np.full(size, KEPT)
    score, threshold = np.full(size, np.nan), np.full(size, np.nan)
    texts, scores, edits, notes = batch.texts, {}, [], {}
    alive, current = np.arange(size), batch
    for index, step in enumerate(cascade):
        if not len(alive):
            break
        outcome = step.apply(current)
        scores |= {(index, name): values for name, values in outcome.scores.items()}
        notes |= {int(alive[row]): note for row, note in outcome.notes.items()}
        if outcome.edits is not None:
            edits.append(outcome.edits)
        if outcome.texts is not current.texts:
            texts = _replaced(texts, alive, outcome.texts)
        broken = outcome.rejected != KEPT
        gone = alive[broken]
        rejected_by[gone], label[gone] = index, outcome.rejected[broken]
        score[gone], threshold[gone] = outcome.score[broken], outcome.threshold[broken]
        alive = alive[~broken]
        stays = pa.array(~broken)
        kept_all = not broken.any()
        current = current._replace(
            texts=outcome.texts if kept_all else outcome.texts.filter(stays),
            ids=current.ids if kept_all else current.ids.filter(stays),
        )
    return Verdict(texts, rejected_by, label, score, threshold, scores, edits, notes)


def _replaced(texts: pa.Array, rows: np.ndarray, by: pa.Array) -> pa.Array:
    """`texts` with those at `rows`, ascending, replaced."""
    if len(rows) == len(texts):
        return by
    places = np.arange(len(texts))
    places[rows] = len(texts) + np.arange(len(rows))
    return pc.take(pa.concat_arrays([texts, by]), pa.array(places))
