"""Documents of a few paragraphs with given frequencies, and what a list of Uzushio's filters makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from tasks.curation.filters.base import KEPT, Batch
from tasks.curation.filters.uzushio import Uzushio
from tasks.curation.uzushio.cleaning import comparison_hashes, comparison_texts
from tasks.curation.uzushio.paragraph_counts import FREQUENCIES
from tasks.curation.uzushio.paragraphs import Documents, split_documents


class Judged(NamedTuple):
    """Texts as they go out; label, score and threshold of those rejected, by id; the rows of edits."""

    texts: dict[str, str]
    rejected: dict[str, tuple[str, float, float]]
    edits: list[dict[str, Any]]
    scores: dict[str, list[float]]


@pytest.fixture(scope="session")
def documents_of() -> Callable[..., Documents]:
    """`documents_of(*texts, near=...)`: documents d0, d1, ...; `near` are frequencies of all paragraphs in order."""

    def made(*texts: str, near: Sequence[int] | None = None) -> Documents:
        documents = split_documents(pa.array([f"d{n}" for n in range(len(texts))]), pa.array(texts, pa.string()))
        return replace(documents, near=np.array(near)) if near is not None else documents

    return made


@pytest.fixture(scope="session")
def score_of(documents_of) -> Callable[..., list[float]]:
    """`score_of(stage, *texts, near=...)`: the scores of a document filter."""
    return lambda stage, *texts, near=None: stage.judge(
        documents_of(*texts, near=near), np.ones(len(texts), bool)
    ).scores.tolist()


@pytest.fixture(scope="session")
def judged() -> Callable[..., Judged]:
    """`judged(stages, {id: text}, frequencies={text: n})`: what the step makes of a batch."""

    def run(
        stages: Sequence[Any], texts: dict[str, str], frequencies: dict[str, int] | None = None, **options
    ) -> Judged:
        step = Uzushio.model_validate({"stages": stages, **options})
        ids, column = pa.array(list(texts)), pa.array(list(texts.values()), pa.string())
        table = frequency_table(frequencies or {})
        outcome = step.apply(Batch(ids, column, {s.name: table for s in step.statistics()}))
        gone = {
            name: (step.labels[label], score, threshold)
            for name, label, score, threshold in zip(
                texts, outcome.rejected, outcome.score.tolist(), outcome.threshold.tolist(), strict=True
            )
            if label != KEPT
        }
        edits = outcome.edits.to_pylist() if outcome.edits is not None else []
        scores = {label: values.tolist() for label, values in outcome.scores.items()}
        return Judged(dict(zip(texts, outcome.texts.to_pylist(), strict=True)), gone, edits, scores)

    return run


def frequency_table(frequencies: dict[str, int]) -> pa.Table:
    texts = pa.array(list(frequencies), pa.string())
    hashes = comparison_hashes(comparison_texts(texts))
    counts = np.array(list(frequencies.values()), dtype=np.int64)
    order = np.argsort(hashes)
    return pa.table([hashes[order], counts[order], counts[order], hashes[order]], schema=FREQUENCIES)
