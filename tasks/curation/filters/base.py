"""What every step of a cascade is: parameters, what it does to a batch of documents, and why a document went."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

KEPT = -1

Scale = Literal["share", "count"]
"""How scores are binned: shares from 0 to 1, or counts by powers of ten."""


class Batch(NamedTuple):
    """Documents that a step sees: (documents,) ids and texts, and what was counted over the whole corpus, by name."""

    ids: pa.Array
    texts: pa.Array
    statistics: Mapping[str, Any] = {}


class Outcome(NamedTuple):
    """What a step did to a batch.

    rejected: (documents,) int64 index into the step's `labels` of what rejected each document, or KEPT; score,
    threshold: (documents,) float64 that decided, NaN where kept; texts: (documents,) the texts as the step leaves them;
    scores: for each label that scored, the (n,) float64 scores of the documents it saw; edits: EDITS rows without
    `split`, or None if nothing was taken out of a text; notes: by row, what the reason of a rejection has
    to say beside score and threshold.
    """

    rejected: np.ndarray
    score: np.ndarray
    threshold: np.ndarray
    texts: pa.Array
    scores: Mapping[str, np.ndarray] = {}
    edits: pa.Table | None = None
    notes: Mapping[int, str] = {}


class Statistic(ABC):
    """Something counted over all documents before any is judged, shard by shard and then put together."""

    name: str

    @abstractmethod
    def gather(self, texts: pa.Array) -> pa.Table:
        """What one batch of normalised texts adds; its rows are small against the texts."""

    @abstractmethod
    def combine(self, parts: Iterable[pa.Table]) -> pa.Table:
        """One table from several; used for the batches of a shard, and on the results for the shards of a corpus."""

    def finish(self, table: pa.Table) -> pa.Table:
        """What all workers get by `name`, made once from the table of the whole corpus."""
        return table


class Step(BaseModel, ABC):
    """The parameters of one step of a cascade.

    A subclass has a field `filter` with its name as the only value. Modules of steps import pydantic alone, so that a
    config is read without numpy or numba; the kernels are imported where a batch is worked on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    holds_lock: ClassVar[bool] = False
    """Whether the work is done in Python, document by document, so that threads would wait for each other."""

    filter: str

    @property
    def labels(self) -> tuple[str, ...]:
        """Names under which this step rejects documents, for the ledger and the counts."""
        return (self.filter,)

    def statistics(self) -> tuple[Statistic, ...]:
        """What has to be counted over the whole corpus before this step can work."""
        return ()

    def outside_files(self) -> dict[str, Path]:
        """Files of the user that decide what this step does, by a name; their content is part of the stage's key."""
        return {}

    def scale_of(self, label: str) -> Scale:
        """How the scores of a label are binned."""
        return "share"

    def bounds_of(self, label: str) -> tuple[float | None, float | None]:
        """The smallest and the largest score that a label lets stay; None for no bound on that side."""
        return None, None

    @abstractmethod
    def apply(self, batch: Batch) -> Outcome:
        """Judges and may rewrite each document; the result for one does not depend on the others of its batch."""

    @abstractmethod
    def reason(self, label: str, score: float, threshold: float) -> str:
        """One sentence that tells why a document was rejected."""


class Filter(Step):
    """A step with one score per document; a document stays when lower <= score <= upper of `bounds`."""

    unit: ClassVar[str]
    scale: ClassVar[Scale] = "share"

    @property
    @abstractmethod
    def bounds(self) -> tuple[float | None, float | None]:
        """The smallest and the largest score that stay; None for no bound on that side."""

    @abstractmethod
    def scores(self, texts: pa.Array) -> np.ndarray:
        """(documents,) float64 score of each text, in `unit`; finite for any text, the empty one included."""

    def scale_of(self, label: str) -> Scale:
        return self.scale

    def bounds_of(self, label: str) -> tuple[float | None, float | None]:
        return self.bounds

    def batch_scores(self, batch: Batch) -> np.ndarray:
        """The scores of a batch; a filter that needs ids or statistics overrides this."""
        return self.scores(batch.texts)

    def apply(self, batch: Batch) -> Outcome:
        return self.decide(batch, self.batch_scores(batch))

    def decide(self, batch: Batch, scores: np.ndarray) -> Outcome:
        """What becomes of documents with these scores."""
        import numpy as np

        threshold = broken_bound(scores, self.bounds)
        broken = ~np.isnan(threshold)
        return Outcome(
            rejected=np.where(broken, 0, KEPT),
            score=np.where(broken, scores, np.nan),
            threshold=threshold,
            texts=batch.texts,
            scores={self.filter: scores},
        )

    def reason(self, label: str, score: float, threshold: float) -> str:
        lower, _ = self.bounds
        side, name = ("below", "minimum") if lower is not None and score < lower else ("above", "maximum")
        return f"{label}: {score:.6g} {self.unit}, {side} the {name} of {threshold:.6g}"


class Edit(Step):
    """A step that rewrites texts and rejects none."""

    holds_lock: ClassVar[bool] = True

    @abstractmethod
    def edit(self, text: str) -> tuple[str, list[str]]:
        """The text as it shall be, and the pieces that were taken out of it, in order; [] when nothing changed."""

    def record(self, pieces: list[str]) -> str:
        """What the ledger of edits keeps of the pieces taken out of one document."""
        return "\n".join(pieces)

    def apply(self, batch: Batch) -> Outcome:
        import numpy as np
        import pyarrow as pa

        texts, rows = batch.texts.to_pylist(), []
        for index, (identifier, text) in enumerate(zip(batch.ids.to_pylist(), texts, strict=True)):
            texts[index], pieces = self.edit(text)
            if pieces:
                rows.append(edit_row(identifier, self.filter, len(pieces), len(text) - len(texts[index]), pieces, self))
        size = len(texts)
        return Outcome(
            rejected=np.full(size, KEPT),
            score=np.full(size, np.nan),
            threshold=np.full(size, np.nan),
            texts=pa.array(texts, pa.string()) if rows else batch.texts,
            edits=edits_table(rows) if rows else None,
        )

    def reason(self, label: str, score: float, threshold: float) -> str:
        raise NotImplementedError(f"{label} rejects no document")


def edit_row(
    identifier: str, label: str, num_places: int, num_characters: int, pieces: list[str], step: Edit
) -> dict[str, Any]:
    """One EDITS row, without `split`."""
    return {
        "id": identifier,
        "filter": label,
        "num_places": num_places,
        "num_characters_removed": num_characters,
        "removed": step.record(pieces),
    }


def edits_table(rows: list[dict[str, Any]]) -> pa.Table:
    """EDITS rows without `split`."""
    import pyarrow as pa

    from data_contracts.rows import EDITS

    return pa.Table.from_pylist(rows, schema=EDITS.remove(EDITS.get_field_index("split")))


def broken_bound(scores: np.ndarray, bounds: tuple[float | None, float | None]) -> np.ndarray:
    """(documents,) float64: the bound that each score lies beyond, NaN where it lies within (bounds included)."""
    import numpy as np

    lower, upper = bounds
    threshold = np.full(len(scores), np.nan)
    if lower is not None:
        threshold[scores < lower] = lower
    if upper is not None:
        threshold[scores > upper] = upper
    return threshold
