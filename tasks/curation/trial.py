"""What a cascade would do to a sample of documents: per step how many go, and the documents nearest to its bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tasks.curation.cascade import Verdict, judge
from tasks.curation.config import FilterConfig
from tasks.curation.filters.base import KEPT, Batch, Step
from tasks.curation.normalization import normalize_texts

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Trial(NamedTuple):
    """One label of one step: documents it saw and removed, its bounds, QUANTILES of its scores, and examples.

    examples: of the documents that went and of those that stayed, the ones whose scores lie nearest to the bound, as
    {"id", "score", "text", "removed"}; edits: documents it rewrote.
    """

    step: int
    label: str
    num_seen: int
    num_removed: int
    num_edited: int
    lower: float | None
    upper: float | None
    quantiles: list[float]
    examples: list[dict[str, Any]]


def try_cascade(config: FilterConfig, ids: Sequence[str], texts: Sequence[str], num_examples: int) -> list[Trial]:
    """The trials of all steps in order; each step sees what the earlier ones kept, as they left it.

    What steps count over the whole corpus is counted over these documents alone.
    """
    cleaned, _ = normalize_texts(pa.array(texts, pa.string()), config.normalization)
    wanted = {s.name: s for step in config.cascade for s in step.statistics()}
    counted = {name: s.finish(s.combine([s.gather(cleaned)])) for name, s in wanted.items()}
    batch, trials = Batch(pa.array(ids, pa.string()), cleaned, counted), []
    for index, step in enumerate(config.cascade):
        if not len(batch.texts):
            break
        verdict = judge([step], batch)
        for place, label in enumerate(step.labels):
            scores = verdict.scores.get((0, label), np.zeros(0))
            trials.append(_trial(index, step, label, verdict.label == place, scores, batch, verdict, num_examples))
        stays = pa.array(verdict.rejected_by == KEPT)
        batch = batch._replace(ids=batch.ids.filter(stays), texts=verdict.texts.filter(stays))
    return trials


def _trial(
    index: int,
    step: Step,
    label: str,
    gone: np.ndarray,
    scores: np.ndarray,
    batch: Batch,
    verdict: Verdict,
    wanted: int,
) -> Trial:
    lower, upper = step.bounds_of(label)
    aligned = len(scores) == len(batch.texts)  # a label of a composite step may have seen some documents only
    edited = sum(rows["filter"].to_pylist().count(label) for rows in verdict.edits)
    return Trial(
        step=index,
        label=label,
        num_seen=len(scores) or len(batch.texts),
        num_removed=int(np.count_nonzero(gone)),
        num_edited=edited,
        lower=lower,
        upper=upper,
        quantiles=[float(q) for q in np.quantile(scores, QUANTILES)] if len(scores) else [],
        examples=_nearest(scores if aligned else verdict.score, gone, (lower, upper), batch, wanted, aligned),
    )


def _nearest(
    scores: np.ndarray,
    gone: np.ndarray,
    bounds: tuple[float | None, float | None],
    batch: Batch,
    wanted: int,
    with_kept: bool,
) -> list[dict[str, Any]]:
    distance = np.full(len(scores), np.inf)
    for bound in bounds:
        if bound is not None:
            distance = np.fmin(distance, np.abs(scores - bound))
    examples = []
    for removed, among in ((True, gone), (False, ~gone)):
        rows = np.flatnonzero(among & np.isfinite(distance)) if removed or with_kept else np.zeros(0, np.int64)
        for row in rows[np.argsort(distance[rows], kind="stable")][:wanted].tolist():
            example = {"id": batch.ids[row].as_py(), "score": float(scores[row]), "removed": removed}
            examples.append(example | {"text": batch.texts[row].as_py()})
    return examples
