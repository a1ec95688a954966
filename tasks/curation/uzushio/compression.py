"""Documents that compress too well or hardly at all: CompressionRate."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tasks.curation.uzushio.stage import RatioStage

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pyarrow as pa

    from tasks.curation.uzushio.paragraphs import Documents

MAX_BYTES = 1 << 20


class CompressionRate(RatioStage):
    """Size of the document's UTF-8 as an LZ4 block, over its size: low for repetitive text.

    The paragraphs go in one after another, cut at 1 MiB. LZ4's fast compressor at its default level, by pyarrow: the
    match search of the reference library, as in lz4-java (found so on 6,700 texts by an own count of what that search
    yields); other bindings differ by up to 0.05. Uzushio scores an empty document as infinite and so removes it as
    incompressible; here it scores 1 (nothing saved).
    """

    unit: ClassVar[str] = "compressed share"

    name: Literal["CompressionRate"] = "CompressionRate"
    low: float = Field(description="Smallest rate that stays.")
    high: float = Field(description="Largest rate that stays.")

    def scores(self, documents: Documents, alive: np.ndarray) -> np.ndarray:
        if "compression" not in documents.memo:
            documents.memo["compression"] = _rates(documents, alive)
        return documents.memo["compression"]


def _rates(documents: Documents, alive: np.ndarray) -> np.ndarray:
    """(documents,) float32 compression rate of those alive, 1 for the others."""
    import numpy as np
    import pyarrow as pa

    codec = pa.Codec("lz4_raw")
    rates = np.ones(len(alive), dtype=np.float32)
    for document, content in zip(np.flatnonzero(alive).tolist(), _contents(documents, alive), strict=True):
        if content.size:
            compressed = codec.compress(content)
            rates[document] = np.float32(compressed.size) / np.float32(content.size)
    return rates


def _contents(documents: Documents, alive: np.ndarray) -> Iterator[pa.Buffer]:
    """The bytes of each document alive: its alive paragraphs without anything between them, cut at 1 MiB."""
    import numpy as np
    import pyarrow as pa

    from tasks.curation.characters import text_buffers

    data, places = text_buffers(documents.texts)
    whole, ends = pa.py_buffer(data), places.tolist()
    untouched = np.logical_and.reduceat(np.append(documents.alive, True), documents.bounds[:-1])
    for document in np.flatnonzero(alive).tolist():
        start, stop = documents.bounds[document], documents.bounds[document + 1]
        if untouched[document]:
            content = whole.slice(ends[start], ends[stop] - ends[start])
        else:
            rows = np.flatnonzero(documents.alive[start:stop]) + start
            content = pa.py_buffer(b"".join(data[places[row] : places[row + 1]].tobytes() for row in rows))
        yield _cut(content)


def _cut(content: pa.Buffer) -> pa.Buffer:
    """At most 1 MiB of UTF-8, whole characters only."""
    if content.size <= MAX_BYTES:
        return content
    end = MAX_BYTES
    while content[end] & 0xC0 == 0x80:
        end -= 1
    return content.slice(0, end)
