"""A cascade of steps over a batch of documents: the first step that rejects a document names the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.curation.filters.base import KEPT, Batch, Filter, Outcome, Step


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


ScoreAhead = Callable[[Sequence[Step], pa.Array], dict[int, np.ndarray]]
"""The scores of texts for some of these steps, by their place; none behind a step that may rewrite texts."""


def judge(cascade: Sequence[Step], batch: Batch, score_ahead: ScoreAhead | None = None) -> Verdict:
    """The verdict on each document; a step sees only what all earlier ones kept, as they left it.

    score_ahead: what scores texts for several steps at once, elsewhere, with the scores that the steps themselves give.
    """
    size = len(batch.texts)
    rejected_by, label = np.full(size, KEPT), np.full(size, KEPT)
    score, threshold = np.full(size, np.nan), np.full(size, np.nan)
    texts, scores, edits, notes = batch.texts, {}, [], {}
    alive, current, ready = np.arange(size), batch, {}
    for index, step in enumerate(cascade):
        if not len(alive):
            break
        if score_ahead and not ready:
            ready = {index + ahead: found for ahead, found in score_ahead(cascade[index:], current.texts).items()}
        outcome = _outcome(step, current, ready.pop(index, None))
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
        ready = {ahead: found[~broken] for ahead, found in ready.items()}
        stays = pa.array(~broken)
        kept_all = not broken.any()
        current = current._replace(
            texts=outcome.texts if kept_all else outcome.texts.filter(stays),
            ids=current.ids if kept_all else current.ids.filter(stays),
        )
    return Verdict(texts, rejected_by, label, score, threshold, scores, edits, notes)


def _outcome(step: Step, batch: Batch, scores: np.ndarray | None) -> Outcome:
    if scores is None:
        return step.apply(batch)
    assert isinstance(step, Filter)
    return step.decide(batch, scores)


def _replaced(texts: pa.Array, rows: np.ndarray, by: pa.Array) -> pa.Array:
    """`texts` with those at `rows`, ascending, replaced."""
    if len(rows) == len(texts):
        return by
    places = np.arange(len(texts))
    places[rows] = len(texts) + np.arange(len(rows))
    return pc.take(pa.concat_arrays([texts, by]), pa.array(places))
