"""Uzushio's filters over a batch of documents: who is rejected by which, what the texts become, what was taken out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.curation.filters.base import KEPT, Batch, Outcome, edits_table
from tasks.curation.uzushio.paragraph_counts import with_frequencies
from tasks.curation.uzushio.paragraphs import Documents, split_documents
from tasks.curation.uzushio.rewriting import texts_by_document
from tasks.curation.uzushio.stage import DocumentStage, MarkingStage, RewritingStage, UzushioStage

MAX_DOCUMENT_BYTES = "max_document_bytes"
MAX_PARAGRAPHS = "max_paragraphs"


@dataclass
class Course:
    """What has become of a batch so far; `texts` holds the documents whose text is no longer the one that came in."""

    batch: Batch
    labels: Mapping[str, int]
    rejected: np.ndarray
    score: np.ndarray
    threshold: np.ndarray
    texts: dict[int, str] = field(default_factory=dict)
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    edits: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, batch: Batch, labels: Sequence[str]) -> Course:
        size = len(batch.texts)
        nothing = np.full(size, np.nan)
        return cls(batch, {name: n for n, name in enumerate(labels)}, np.full(size, KEPT), nothing, nothing.copy())

    @property
    def alive(self) -> np.ndarray:
        return self.rejected == KEPT

    def text(self, document: int) -> str:
        """The text of a document as it is now."""
        known = self.texts.get(document)
        return self.batch.texts[document].as_py() if known is None else known

    def reject(self, label: str, scores: np.ndarray, threshold: np.ndarray) -> None:
        """Records the scores of the documents alive, and rejects those with a threshold."""
        alive = self.alive
        self.scores[label] = scores[alive]
        broken = alive & ~np.isnan(threshold)
        self.rejected[broken] = self.labels[label]
        self.score[broken], self.threshold[broken] = scores[broken], threshold[broken]

    def edit(self, label: str, document: int, text: str, num_places: int, pieces: list[str]) -> None:
        """Gives a document another text and records what was taken out of the one before."""
        row = {"id": self.batch.ids[document].as_py(), "filter": label, "num_places": num_places}
        row["num_characters_removed"] = len(self.text(document)) - len(text)
        row["removed"] = "\n".join(pieces)
        self.edits.append(row)
        self.texts[document] = text

    def current(self) -> pa.Array:
        """(documents,) the texts as they are now."""
        if not self.texts:
            return self.batch.texts
        texts = self.batch.texts.to_pylist()
        for document, text in self.texts.items():
            texts[document] = text
        return pa.array(texts, pa.string())


def run_stages(
    stages: Mapping[str, UzushioStage],
    batch: Batch,
    labels: Sequence[str],
    limits: Mapping[str, int | None],
    frequencies: str | None,
) -> Outcome:
    """The outcome of the stages, by their labels, in order.

    limits: of MAX_DOCUMENT_BYTES and MAX_PARAGRAPHS, documents from that size on are rejected; frequencies: name of the
    statistic with the frequencies of paragraphs, None if no stage reads them.
    """
    course = Course.of(batch, labels)
    documents = split_documents(batch.ids, batch.texts)
    _apply_limits(course, documents, limits)
    if frequencies is not None:
        documents = with_frequencies(documents, batch.statistics[frequencies])
    for label, stage in stages.items():
        if not course.alive.any():
            break
        documents = _apply(course, label, stage, documents)
    texts = _finish(course, documents)
    return Outcome(
        course.rejected,
        course.score,
        course.threshold,
        texts,
        course.scores,
        edits_table(course.edits) if course.edits else None,
    )


def _apply_limits(course: Course, documents: Documents, limits: Mapping[str, int | None]) -> None:
    sizes = {
        MAX_DOCUMENT_BYTES: pc.binary_length(course.batch.texts).to_numpy(zero_copy_only=False),
        MAX_PARAGRAPHS: np.diff(documents.bounds),
    }
    for name, values in sizes.items():
        limit = limits[name]
        if limit is not None:
            course.reject(f"uzushio.{name}", values.astype(np.float64), np.where(values >= limit, limit, np.nan))


def _apply(course: Course, label: str, stage: UzushioStage, documents: Documents) -> Documents:
    alive = course.alive
    if isinstance(stage, DocumentStage):
        course.reject(label, *stage.judge(documents, alive))
        return documents
    if isinstance(stage, RewritingStage):
        documents, pieces = stage.rewrite(documents, alive)
        for document, (num_places, removed) in pieces.items():
            course.edit(label, document, documents.stored(document), num_places, removed)
        return documents
    assert isinstance(stage, MarkingStage)
    return _mark(course, label, stage, documents, alive)


def _mark(course: Course, label: str, stage: MarkingStage, documents: Documents, alive: np.ndarray) -> Documents:
    marked = stage.marks(documents, alive) & documents.alive & alive[documents.owner]
    after = documents.without(marked) if marked.any() else documents
    left = after.total(after.units.all).astype(np.float64)
    emptied = np.zeros(len(alive), dtype=bool)
    emptied[documents.owner[marked]] = True
    emptied &= left == 0
    course.reject(label, left, np.where(emptied, 1.0, np.nan))
    # What was emptied stands in the ledger with the text it had; the edits tell of those that go on.
    rows = np.flatnonzero(marked & ~emptied[documents.owner])
    for document, (num_places, pieces) in texts_by_document(documents, rows).items():
        course.edit(label, document, after.stored(document), num_places, pieces)
    return after


def _finish(course: Course, documents: Documents) -> pa.Array:
    """The texts as they go out: kept ones cleaned, those without any text left rejected, others as they were judged."""
    before, rendered = course.current(), documents.rendered()
    alive = course.alive
    # Uzushio writes blank paragraphs alone as line ends; a text without anything to see is none here.
    lengths = pc.utf8_length(pc.utf8_trim(rendered, "\n")).to_numpy(zero_copy_only=False).astype(np.float64)
    course.reject("uzushio.empty", lengths, np.where(alive & (lengths == 0), 1.0, np.nan))
    kept = pa.array(course.alive)
    texts = pc.if_else(kept, rendered, before)
    changed = pc.and_(kept, pc.not_equal(rendered, before)).to_numpy(zero_copy_only=False)
    removed = pc.subtract(pc.utf8_length(before), pc.utf8_length(rendered)).to_numpy(zero_copy_only=False)
    for document in np.flatnonzero(changed).tolist():
        row = {"id": course.batch.ids[document].as_py(), "filter": "uzushio.text_only", "removed": ""}
        course.edits.append(row | {"num_places": 1, "num_characters_removed": int(removed[document])})
    return texts
