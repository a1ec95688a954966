"""Documents with words of a list: WordTypes, WordInstances."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.base import Scale
from tasks.curation.uzushio.stage import Bounds, DocumentStage, Judgement
from tasks.runtime import NOT_IDENTITY

if TYPE_CHECKING:
    import numpy as np

    from tasks.curation.uzushio.paragraphs import Documents
    from tasks.curation.uzushio.word_matching import Matches


class WordListStage(DocumentStage):
    """A filter with a word list: UTF-8, one entry a line, `#` begins a comment line, entries are not trimmed.

    Texts are scanned from left to right: the longest entry that starts at a position is taken, and the scan goes on
    behind it.
    """

    scale: ClassVar[Scale] = "count"

    list: Path = Field(description="The word list.", json_schema_extra=NOT_IDENTITY)
    threshold: float = Field(default=3.0, description="Smallest score that removes a document.")

    @property
    def bounds(self) -> Bounds:
        return None, self.threshold

    def outside_files(self) -> dict[str, Path]:
        return {"list": self.list}

    def matches(self, documents: Documents, alive: np.ndarray) -> Matches:
        """What of the list occurs in each document."""
        from tasks.curation.uzushio.word_matching import find_words

        key = f"words {self.list}"
        if key not in documents.memo:
            documents.memo[key] = find_words(documents, alive, self.list)
        return documents.memo[key]

    def reason(self, score: float, threshold: float) -> str:
        return f"{score:.6g} {self.unit}, the limit is {threshold:.6g}"


class WordTypes(WordListStage):
    """How many different entries occur (`uniq`), or the sum of sqrt(n) or of 1 + log10(n) over their counts n."""

    unit: ClassVar[str] = "different words of the list"

    name: Literal["WordTypes"] = "WordTypes"
    kind: Literal["uniq", "sqrt", "log10"] = Field(default="uniq", description="How counts of entries are added up.")

    def judge(self, documents: Documents, alive: np.ndarray) -> Judgement:
        import numpy as np

        scores = getattr(self.matches(documents, alive), self.kind).astype(np.float32)
        threshold = np.float32(self.threshold)
        return Judgement(np.where(alive, scores, np.nan), np.where(alive & (scores >= threshold), threshold, np.nan))


class WordInstances(WordListStage):
    """How often entries occur, `full` for each; a document goes when score + 0.001 >= threshold.

    `partial` is read for compatibility: Uzushio never uses it, and neither do we.
    """

    unit: ClassVar[str] = "words of the list"

    name: Literal["WordInstances"] = "WordInstances"
    full: float = Field(default=1.0, description="What one match counts.")
    partial: float = Field(default=0.1, description="Without effect, as in Uzushio.")

    def judge(self, documents: Documents, alive: np.ndarray) -> Judgement:
        import numpy as np

        scores = self.matches(documents, alive).instances.astype(np.float32) * np.float32(self.full)
        threshold = np.float32(self.threshold)
        broken = alive & (scores + np.float32(0.001) >= threshold)
        return Judgement(np.where(alive, scores, np.nan), np.where(broken, threshold, np.nan))
