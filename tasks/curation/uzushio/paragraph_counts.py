"""How often each paragraph, or one like it, occurs in the whole corpus: the statistic that frequency filters read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from tasks.curation.filters.base import Statistic
from tasks.curation.uzushio.cleaning import comparison_hashes, comparison_texts
from tasks.curation.uzushio.near_duplicates import representatives, signatures
from tasks.curation.uzushio.paragraphs import Documents, split_documents

MAX_FREQUENCY = 2**31 - 1

FREQUENCIES = pa.schema(
    [
        pa.field("hash", pa.int64()),  # of the cleaned text, ascending
        pa.field("exact", pa.int64()),  # how often that very text occurs
        pa.field("near", pa.int64()),  # how often it or a near-duplicate occurs, at least 2
        pa.field("representative", pa.int64()),  # smallest hash of its near-duplicates
    ]
)


@dataclass(frozen=True)
class ParagraphCounts(Statistic):
    """Frequencies of the paragraphs of a corpus by the hash of their cleaned text; those of frequency 1 are left out.

    near: whether near-duplicates count too. Without, a batch adds 16 bytes for each different paragraph. With, its
    text and a signature of 16 bytes too, and all different texts are in memory while groups are sought, in one process:
    2.5 kB for each document of 1 kB with 5 paragraphs that occur nowhere else (measured on 20,000 to 100,000), so 3 GB
    for 1 M of them. All documents count, also those that a limit rejects. Unlike in Uzushio, which leaves them out
    against skew, the 100 most frequent paragraphs have near-duplicates like all others.
    """

    near: bool
    rotations: int
    window: int
    matching_bits: int

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        near = f"_near_{self.rotations}_{self.window}_{self.matching_bits}" if self.near else ""
        return f"uzushio_paragraphs{near}"

    def gather(self, texts: pa.Array) -> pa.Table:
        cleaned = comparison_texts(split_documents(texts, texts).texts)
        hashes = comparison_hashes(cleaned)
        counted = pa.table({"hash": hashes, "frequency": np.ones(len(hashes), dtype=np.int64)})
        if self.near:
            counted = counted.append_column("text", cleaned.cast(pa.large_string()))
        merged = _merged(counted)
        if self.near:
            prints = signatures(merged["text"].combine_chunks())
            merged = merged.append_column("high", pa.array(prints[:, 0])).append_column("low", pa.array(prints[:, 1]))
        return merged

    def combine(self, parts: Iterable[pa.Table]) -> pa.Table:
        tables = list(parts)
        return _merged(pa.concat_tables(tables)) if tables else self.gather(pa.array([], pa.string()))

    def finish(self, table: pa.Table) -> pa.Table:
        hashes, exact = table["hash"].to_numpy(), table["frequency"].to_numpy()
        groups = hashes
        near = exact
        if self.near and len(hashes):
            prints = np.stack((table["high"].to_numpy(), table["low"].to_numpy()), axis=1)
            texts = table["text"].combine_chunks()
            groups = representatives(
                texts,
                hashes,
                prints,
                rotations=self.rotations,
                window=self.window,
                matching_bits=self.matching_bits,
            )
            _, members = np.unique(groups, return_inverse=True)
            near = np.bincount(members, weights=exact).astype(np.int64)[members]
        stored = near > 1
        columns = (hashes, np.minimum(exact, MAX_FREQUENCY), np.minimum(near, MAX_FREQUENCY), groups)
        return pa.table([pa.array(column[stored]) for column in columns], schema=FREQUENCIES)


def with_frequencies(documents: Documents, frequencies: pa.Table) -> Documents:
    """The documents with the frequencies of their paragraphs; one that the table lacks has 1 and 1."""
    known = frequencies["hash"].to_numpy()
    if not len(known):
        return documents
    hashes = comparison_hashes(comparison_texts(documents.texts))
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    found = known[places] == hashes
    exact, near = (np.where(found, frequencies[name].to_numpy()[places], 1) for name in ("exact", "near"))
    return replace(documents, exact=exact, near=near, memo={})


def _merged(table: pa.Table) -> pa.Table:
    """One row for each hash, ascending, frequencies added; of other columns the first, which are equal."""
    hashes = table["hash"].to_numpy()
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(order) else order
    totals = np.add.reduceat(table["frequency"].to_numpy()[order], starts) if len(order) else order
    merged = table.take(pa.array(order[starts]))
    return merged.set_column(table.column_names.index("frequency"), "frequency", pa.array(totals)).combine_chunks()
