"""A batch of documents as columns of paragraphs: splitting, lengths in UTF-16 units, sums per document, rendering."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.curation.characters import decode, text_buffers
from tasks.curation.uzushio.cleaning import PATH_END, clean_texts

SEPARATOR = "\n\n"


class Units(NamedTuple):
    """UTF-16 code units of each paragraph, (paragraphs,) int64: all, hiragana, inside links, link markers."""

    all: np.ndarray
    hiragana: np.ndarray
    linked: np.ndarray
    markers: np.ndarray


@dataclass(frozen=True)
class Documents:
    """Documents made of paragraphs.

    ids: (documents,); bounds: (documents + 1,) int64, where the paragraphs of each document lie; texts, paths:
    (paragraphs,) strings; exact, near: (paragraphs,) int64, how often a text, or one like it, occurs in the corpus;
    alive: (paragraphs,) bool, False for those that a filter removed; memo: figures of this very state, by name.
    """

    ids: pa.Array
    bounds: np.ndarray
    texts: pa.Array
    paths: pa.Array
    exact: np.ndarray
    near: np.ndarray
    alive: np.ndarray
    memo: dict[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def owner(self) -> np.ndarray:
        """(paragraphs,) int64 document of each paragraph."""
        return np.repeat(np.arange(len(self.ids)), np.diff(self.bounds))

    @cached_property
    def units(self) -> Units:
        counts = np.zeros((4, len(self.texts)), dtype=np.int64)
        _count_units(*text_buffers(self.texts), counts)
        return Units(*counts)

    @cached_property
    def has_paths(self) -> bool:
        return bool(pc.max(pc.binary_length(self.paths)).as_py())

    def total(self, values: np.ndarray) -> np.ndarray:
        """(documents,) sum of `values` over the alive paragraphs of each document."""
        sums = np.concatenate(([0], np.cumsum(np.where(self.alive, values, 0))))
        return sums[self.bounds[1:]] - sums[self.bounds[:-1]]

    def without(self, marked: np.ndarray) -> Documents:
        """The same paragraphs with those of the mask marked as removed."""
        kept = replace(self, alive=self.alive & ~marked, memo={})
        # The texts are the same, so are their lengths.
        kept.__dict__["units"], kept.__dict__["owner"] = self.units, self.owner
        return kept

    def stored(self, document: int) -> str:
        """The alive paragraphs of one document as they came: paths and link markers included."""
        start, stop = self.bounds[document], self.bounds[document + 1]
        rows = [row for row in range(start, stop) if self.alive[row]]
        return SEPARATOR.join(_stored(self.paths[row].as_py(), self.texts[row].as_py()) for row in rows)

    def rendered(self) -> pa.Array:
        """(documents,) the alive paragraphs of each, cleaned and joined by blank lines."""
        counts = self.total(np.ones(len(self.texts), dtype=np.int64))
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        texts = clean_texts(self.texts.filter(pa.array(self.alive)))
        return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), texts), SEPARATOR)


def split_documents(ids: pa.Array, texts: pa.Array) -> Documents:
    """Documents cut into paragraphs at every blank line; all alive and of frequency 1."""
    pieces = pc.split_pattern(texts, SEPARATOR)
    bounds = pieces.offsets.to_numpy().astype(np.int64)
    flat = pieces.flatten()
    paths, flat = split_paths(flat)
    ones = np.ones(len(flat), dtype=np.int64)
    return Documents(ids, bounds - bounds[0], flat, paths, ones, ones, np.ones(len(flat), dtype=bool))


def split_paths(pieces: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Path and text of each piece; a path stands before U+001C and is empty where there is none."""
    size = len(pieces)
    marked = pc.match_substring(pieces, PATH_END)
    if not pc.any(marked).as_py():
        return pa.repeat(pa.scalar("", pieces.type), size), pieces
    paths, texts = [""] * size, pieces.to_pylist()
    for row in np.flatnonzero(marked.to_numpy(zero_copy_only=False)).tolist():
        paths[row], _, texts[row] = texts[row].partition(PATH_END)
    return pa.array(paths, pieces.type), pa.array(texts, pieces.type)


def _stored(path: str, text: str) -> str:
    return f"{path}{PATH_END}{text}" if path else text


@numba.njit(cache=True, nogil=True)
def _count_units(data, bounds, counts):
    for paragraph in range(counts.shape[1]):
        position, end = bounds[paragraph], bounds[paragraph + 1]
        units, hiragana, linked, markers, inside = 0, 0, 0, 0, False
        while position < end:
            code, position = decode(data, position)
            size = 1 if code < 0x10000 else 2
            units += size
            if code == 2 or code == 3:
                markers += 1
                inside = code == 2
            else:
                hiragana += 0x3040 <= code <= 0x309F
                linked += size if inside else 0
        counts[0, paragraph], counts[1, paragraph] = units, hiragana
        counts[2, paragraph], counts[3, paragraph] = linked, markers
