"""Lines that many documents share: menus, notices, footers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.filters.base import KEPT, Batch, Edit, Filter, Outcome, Statistic, edit_row, edits_table

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from tasks.curation.line_hashes import Lines

MIN_CHARACTERS = Field(default=10, ge=1, description="Characters from which a line is counted; shorter ones are never.")
MIN_DOCUMENTS = Field(default=10, ge=2, description="Documents of the corpus in which a line occurs to be boilerplate.")


class LineFrequency(Statistic):
    """In how many documents each line occurs, by 64-bit hashes of the lines; lines of one document are not kept.

    Lines are compared as they stand after normalisation, without spaces, tabs and U+3000 around them. Memory: 12 bytes
    for each distinct line, in the part of each shard on disk and once in memory for the corpus, before those of one
    document go: 1.2 GB for ten million documents with ten counted lines each. With 10^8 distinct lines, two different
    ones are taken for the same with a probability of 0.0003.
    """

    def __init__(self, min_characters: int) -> None:
        self.min_characters = min_characters
        self.name = f"line_frequency_{min_characters}"

    def gather(self, texts: pa.Array) -> pa.Table:
        from tasks.curation.line_hashes import line_frequencies

        return line_frequencies(texts, self.min_characters)

    def combine(self, parts: Iterable[pa.Table]) -> pa.Table:
        from tasks.curation.line_hashes import merged

        return merged(parts)

    def finish(self, table: pa.Table) -> pa.Table:
        import pyarrow.compute as pc

        return table.filter(pc.greater_equal(table["num_documents"], 2)).combine_chunks()


class BoilerplateShare(Filter):
    """Share of a document's characters in lines that occur in at least `min_documents` documents of the corpus.

    Characters of lines without spaces, tabs and U+3000 around them; lines of fewer than `min_characters` count as the
    document's own. Documents are counted, not occurrences, over the whole corpus before any is removed: exact copies
    of one document count too, so `min_documents` must be above the copies that dedup is to sort out. Unit: share from
    0 to 1. Default: at most 0.5, lines from 10 characters in 10 documents. Source: CCNet (Wenzek et al. 2020) drops
    each paragraph that occurs twice in a shard; the higher count, because lists and headings of honest articles are
    equal too.
    """

    unit: ClassVar[str] = "share in lines of other documents"

    filter: Literal["boilerplate_share"] = "boilerplate_share"
    min_characters: int = MIN_CHARACTERS
    min_documents: int = MIN_DOCUMENTS
    max_ratio: float = Field(default=0.5, ge=0, le=1, description="Largest share in such lines that stays.")

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return None, self.max_ratio

    def statistics(self) -> tuple[Statistic, ...]:
        return (LineFrequency(self.min_characters),)

    def scores(self, texts: pa.Array) -> np.ndarray:
        import numpy as np

        # Texts without a corpus around them share no line with another document of it.
        return np.zeros(len(texts))

    def batch_scores(self, batch: Batch) -> np.ndarray:
        import numpy as np

        lines, shared = _shared(batch, self.min_characters, self.min_documents)
        total = _per_document(lines.num_characters, lines)
        return _per_document(np.where(shared, lines.num_characters, 0), lines) / np.maximum(total, 1)


class RemoveBoilerplateLines(Edit):
    """Takes lines out that occur in at least `min_documents` documents of the corpus, and keeps the document.

    Every occurrence goes, the first one too. What counts as a line and as a document is told at `boilerplate_share`.
    The ledger of edits holds the lines. Default: lines from 10 characters in 10 documents. Source: as there.
    """

    filter: Literal["remove_boilerplate_lines"] = "remove_boilerplate_lines"
    min_characters: int = MIN_CHARACTERS
    min_documents: int = MIN_DOCUMENTS

    def statistics(self) -> tuple[Statistic, ...]:
        return (LineFrequency(self.min_characters),)

    def edit(self, text: str) -> tuple[str, list[str]]:
        # A text without a corpus around it shares no line with another document of it.
        return text, []

    def apply(self, batch: Batch) -> Outcome:
        import numpy as np
        import pyarrow as pa

        lines, shared = _shared(batch, self.min_characters, self.min_documents)
        texts, rows = batch.texts.to_pylist(), []
        for index in np.flatnonzero(_per_document(shared, lines)).tolist():
            text, gone = texts[index], shared[lines.bounds[index] : lines.bounds[index + 1]].tolist()
            texts[index], pieces = _without(text, gone)
            num_characters = len(text) - len(texts[index])
            rows.append(edit_row(batch.ids[index].as_py(), self.filter, len(pieces), num_characters, pieces, self))
        size = len(texts)
        return Outcome(
            rejected=np.full(size, KEPT),
            score=np.full(size, np.nan),
            threshold=np.full(size, np.nan),
            texts=pa.array(texts, pa.string()) if rows else batch.texts,
            edits=edits_table(rows) if rows else None,
        )


def _shared(batch: Batch, min_characters: int, min_documents: int) -> tuple[Lines, np.ndarray]:
    """The lines of a batch, and (lines,) bool whether each is boilerplate."""
    from tasks.curation.line_hashes import found_in, lines_of

    lines = lines_of(batch.texts, min_characters)
    return lines, found_in(lines, batch.statistics[LineFrequency(min_characters).name], min_documents)


def _per_document(values: np.ndarray, lines: Lines) -> np.ndarray:
    """(documents,) sums over the lines of each document; each has at least one line."""
    import numpy as np

    sums = np.zeros(len(lines.hashes) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    return sums[lines.bounds[1:]] - sums[lines.bounds[:-1]]


def _without(text: str, gone: list[bool]) -> tuple[str, list[str]]:
    """A text without the marked lines, nor empty lines around the rest; and those lines."""
    marked = list(zip(text.split("\n"), gone, strict=True))
    return "\n".join(line for line, is_gone in marked if not is_gone).strip("\n"), [
        line for line, is_gone in marked if is_gone
    ]
