"""Filters by how often paragraphs occur in the corpus, and two that compare neighbours.

`DuplicateParagraphs`, `LargeFreqParagraphs`, `AdjacentDuplicateParagraphs`, and on documents `DeduplicateDocuments`,
`DeduplicateDocumentsPercentile`, `DuplicateDocumentsLengthWeighted`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.base import Scale
from tasks.curation.uzushio.stage import DocumentStage, Judgement, MarkingStage, RewritingStage, Rewritten

if TYPE_CHECKING:
    import numpy as np

    from tasks.curation.uzushio.paragraphs import Documents


class DuplicateParagraphs(MarkingStage):
    """Removes every paragraph that occurs at least `limit` times in the corpus; no copy stays."""

    reads_frequencies: ClassVar[bool] = True

    name: Literal["DuplicateParagraphs"] = "DuplicateParagraphs"
    limit: int = Field(default=2, ge=1, description="Smallest frequency that is removed.")

    def marks(self, documents: Documents, alive: np.ndarray) -> np.ndarray:
        return documents.near >= self.limit


class LargeFreqParagraphs(MarkingStage):
    """Removes runs of at least `count` frequent paragraphs, and shorter ones at the start or end of a document.

    A frequent paragraph goes if it is the last, or the first, of `count` frequent neighbours; at the edges of a
    document the window is what is left of it. Paragraphs that an earlier filter removed count as neighbours. As in
    Uzushio, each removal also takes the frequent paragraphs among the `count` before it, even beyond a gap.
    """

    reads_frequencies: ClassVar[bool] = True

    name: Literal["LargeFreqParagraphs"] = "LargeFreqParagraphs"
    count: int = Field(default=3, ge=1, description="Frequent paragraphs in a row.")
    freq: int = Field(default=100, ge=1, description="Smallest frequency of a frequent paragraph.")

    def marks(self, documents: Documents, alive: np.ndarray) -> np.ndarray:
        from tasks.curation.uzushio.runs import marked_runs

        return marked_runs(documents, alive, documents.near >= self.freq, self.count)


class AdjacentDuplicateParagraphs(RewritingStage):
    """Of neighbouring paragraphs with the same text the first stays; paths and frequencies are not compared."""

    name: Literal["AdjacentDuplicateParagraphs"] = "AdjacentDuplicateParagraphs"

    def rewrite(self, documents: Documents, alive: np.ndarray) -> Rewritten:
        from tasks.curation.uzushio.rewriting import without_adjacent_copies

        return without_adjacent_copies(documents, alive)


class DeduplicateDocuments(DocumentStage):
    """Removes documents at random, the sooner the more of their text occurs often.

    Score: mean of ln(min(frequency, base)) / ln(base) over the document, weighted by length. The bound is drawn from
    the document's id by a normal distribution. Uzushio calls its constants mean 0.3 and deviation 0.1 and uses them the
    other way round; here they are what they are called, unless `as_upstream`. A bound of 0 or less (0.1 % of the
    documents, 37 % as upstream) removes any document.
    """

    reads_frequencies: ClassVar[bool] = True
    unit: ClassVar[str] = "weighted log frequency"

    name: Literal["DeduplicateDocuments"] = "DeduplicateDocuments"
    base_num_freq: int = Field(default=10, ge=2, description="Frequency that counts 1; larger ones count no more.")
    as_upstream: bool = Field(default=False, description="Mean 0.1 and deviation 0.3 of the random bound.")

    def judge(self, documents: Documents, alive: np.ndarray) -> Judgement:
        import numpy as np

        logs = np.log(np.minimum(documents.near, self.base_num_freq)) / math.log(self.base_num_freq)
        scores = weighted_mean(documents, logs)
        drawn = self.drawn_thresholds(documents, alive)
        broken = alive & (scores >= drawn)
        return Judgement(np.where(alive, scores, np.nan), np.where(broken, drawn, np.nan))

    def drawn_thresholds(self, documents: Documents, alive: np.ndarray) -> np.ndarray:
        """(documents,) float64 random bound of each document alive."""
        import numpy as np

        from tasks.curation.uzushio.randomness import gaussian, hash_texts

        mean, deviation = (0.1, 0.3) if self.as_upstream else (0.3, 0.1)
        drawn = np.full(len(alive), np.nan)
        seeds = hash_texts(documents.ids)
        for document in np.flatnonzero(alive):
            drawn[document] = gaussian(int(seeds[document])) * deviation + mean
        return drawn

    def reason(self, score: float, threshold: float) -> str:
        return f"{score:.6g} {self.unit}, its random limit is {threshold:.6g}"


class ThinningStage(DocumentStage):
    """Keeps a document of frequency f with a probability of expected / f, drawn from its id.

    The score is the frequency, the bound expected / random(id): a document goes when its frequency is above that. The
    same id draws the same number in every stage, so stages of this kind are nested, not independent.
    """

    reads_frequencies: ClassVar[bool] = True
    unit: ClassVar[str] = "occurrences"
    scale: ClassVar[Scale] = "count"

    expected: float = Field(default=1.0, gt=0, description="Copies that shall be left of a document.")

    def frequency(self, documents: Documents) -> np.ndarray:
        """(documents,) float64 how often each occurs; 0 for unknown."""
        raise NotImplementedError

    def judge(self, documents: Documents, alive: np.ndarray) -> Judgement:
        import numpy as np

        from tasks.curation.uzushio.randomness import random_of

        frequency, drawn = self.frequency(documents), random_of(documents.ids)
        with np.errstate(divide="ignore"):
            broken = alive & (drawn > self.expected / frequency)
            threshold = np.where(broken, self.expected / drawn, np.nan)
        return Judgement(np.where(alive, frequency, np.nan), threshold)

    def reason(self, score: float, threshold: float) -> str:
        return f"{score:.6g} {self.unit}, above the {threshold:.6g} that its id allows for {self.expected:.6g} expected"


class DeduplicateDocumentsPercentile(ThinningStage):
    """The frequency is that of the paragraph at a low percentile of the document: most of it occurs more often."""

    name: Literal["DeduplicateDocumentsPercentile"] = "DeduplicateDocumentsPercentile"
    percentile: float = Field(default=0.05, ge=0, lt=1, description="Share of paragraphs that occur more rarely.")

    def frequency(self, documents: Documents) -> np.ndarray:
        import numpy as np

        counts = np.zeros(len(documents.ids), dtype=np.float64)
        order = np.lexsort((documents.near, ~documents.alive, documents.owner))
        ordered = documents.near[order]
        num_alive = documents.total(np.ones(len(order), dtype=np.int64))
        # Uzushio takes the product in 32 bits; 20 x 0.05 is 1 there.
        places = (num_alive.astype(np.float32) * np.float32(self.percentile)).astype(np.int64)
        some = num_alive > 0
        counts[some] = ordered[documents.bounds[:-1][some] + places[some]]
        return counts


class DuplicateDocumentsLengthWeighted(ThinningStage):
    """The frequency is 1 + log10 of the paragraphs' frequencies, weighted by their lengths."""

    name: Literal["DuplicateDocumentsLengthWeighted"] = "DuplicateDocumentsLengthWeighted"

    def frequency(self, documents: Documents) -> np.ndarray:
        import numpy as np

        return weighted_mean(documents, np.log10(documents.near) + 1)


def weighted_mean(documents: Documents, values: np.ndarray) -> np.ndarray:
    """(documents,) float64 mean of values over alive paragraphs, weighted by length; 0 for a document without text."""
    import numpy as np

    lengths = documents.units.all
    weights = documents.total(lengths).astype(np.float64)
    # Document by document: in sums that run on from one to the next the score would depend on the neighbours.
    sums = np.bincount(documents.owner, weights=np.where(documents.alive, values * lengths, 0), minlength=len(weights))
    return np.divide(sums, weights, out=np.zeros_like(weights), where=weights > 0)
