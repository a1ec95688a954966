"""Paragraphs joined, dropped or given a heading mark: what the rewriting filters do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from tasks.curation.uzushio.html_paths import heading_level, is_list_item
from tasks.curation.uzushio.paragraphs import Documents
from tasks.curation.uzushio.stage import Rewritten


def without_adjacent_copies(documents: Documents, alive: np.ndarray) -> Rewritten:
    """Without paragraphs whose text is that of the one before; they are no neighbours of anything any more."""
    codes = documents.texts.dictionary_encode().indices.to_numpy()
    owner = documents.owner
    copies = np.zeros(len(codes), dtype=bool)
    copies[1:] = (codes[1:] == codes[:-1]) & (owner[1:] == owner[:-1])
    copies &= alive[owner]
    if not copies.any():
        return Rewritten(documents, {})
    # A removed copy was out of the text before: it goes without a trace.
    pieces = texts_by_document(documents, np.flatnonzero(copies & documents.alive))
    return Rewritten(_taken(documents, np.flatnonzero(~copies)), pieces)


def with_headings(documents: Documents, alive: np.ndarray) -> Rewritten:
    """With `# ` to `###### ` before the alive paragraphs that stood in a heading."""
    if not documents.has_paths:
        return Rewritten(documents, {})
    paths = documents.paths.dictionary_encode()
    by_path = np.array([heading_level(path) for path in paths.dictionary.to_pylist()], dtype=np.int64)
    levels = np.where(documents.alive & alive[documents.owner], by_path[paths.indices.to_numpy()], 0)
    rows = np.flatnonzero(levels)
    if not len(rows):
        return Rewritten(documents, {})
    texts = documents.texts.to_pylist()
    for row in rows.tolist():
        texts[row] = f"{'#' * levels[row]} {texts[row]}"
    changed = replace(documents, texts=pa.array(texts, pa.string()), memo={})
    places = np.bincount(documents.owner[rows], minlength=len(alive))
    return Rewritten(changed, {int(d): (int(places[d]), []) for d in np.flatnonzero(places)})


def with_merged_lists(documents: Documents, alive: np.ndarray) -> Rewritten:
    """With runs of list items of one path joined to one paragraph at the place of the first."""
    if not documents.has_paths:
        return Rewritten(documents, {})
    follows = _follows_in_list(documents, alive)
    if not follows.any():
        return Rewritten(documents, {})
    texts = documents.texts.to_pylist()
    exact, near = documents.exact.copy(), documents.near.copy()
    pieces = texts_by_document(documents, np.flatnonzero(follows))
    starts = np.flatnonzero(~follows)
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(texts)], strict=True):
        if stop - start > 1:
            texts[start] = "- " + "\n- ".join(texts[start:stop])
            exact[start], near[start] = exact[start:stop].min(), near[start:stop].min()
    joined = replace(documents, texts=pa.array(texts, pa.string()), exact=exact, near=near, memo={})
    return Rewritten(_taken(joined, starts), pieces)


def _follows_in_list(documents: Documents, alive: np.ndarray) -> np.ndarray:
    """(paragraphs,) bool: list items whose neighbour before is an item of the same path; both alive."""
    paths = documents.paths.dictionary_encode()
    items = np.array([is_list_item(path) for path in paths.dictionary.to_pylist()], dtype=bool)
    codes, owner = paths.indices.to_numpy(), documents.owner
    living = documents.alive & alive[owner]
    follows = np.zeros(len(codes), dtype=bool)
    follows[1:] = (codes[1:] == codes[:-1]) & (owner[1:] == owner[:-1]) & living[1:] & living[:-1]
    return follows & items[codes]


def _taken(documents: Documents, rows: np.ndarray) -> Documents:
    """The documents with those paragraphs alone, ascending."""
    sizes = np.bincount(documents.owner[rows], minlength=len(documents.ids))
    return Documents(
        documents.ids,
        np.concatenate(([0], np.cumsum(sizes))),
        documents.texts.take(pa.array(rows)),
        documents.paths.take(pa.array(rows)),
        documents.exact[rows],
        documents.near[rows],
        documents.alive[rows],
    )


def texts_by_document(documents: Documents, rows: np.ndarray) -> dict[int, tuple[int, list[str]]]:
    """The texts of some paragraphs by document, with how many they are."""
    texts: dict[int, list[str]] = {}
    owners = documents.owner[rows].tolist()
    for owner, text in zip(owners, documents.texts.take(pa.array(rows)).to_pylist(), strict=True):
        texts.setdefault(owner, []).append(text)
    return {owner: (len(pieces), pieces) for owner, pieces in texts.items()}
