"""Which document of a cluster stays, and what the cluster is called."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.curation.scanning import Scan


def id_ranks(ids: pa.LargeStringArray) -> np.ndarray:
    """(documents,) int64 place of each id among all, by code points."""
    return _inverse(pc.sort_indices(ids).to_numpy())


def survival_rank(scan: Scan, ids: np.ndarray) -> np.ndarray:
    """(documents,) int64: the smaller, the sooner a document stays.

    References in their order, shipped validation documents, all others; then the longest comparison text; then `ids`,
    the places of the ids.
    """
    return _inverse(np.lexsort((ids, -scan.lengths, scan.standing)))


def _inverse(order: np.ndarray) -> np.ndarray:
    inverse = np.empty(len(order), dtype=np.int64)
    inverse[order] = np.arange(len(order))
    return inverse


def cluster_names(survivor: np.ndarray, ids: np.ndarray, num_own: int) -> np.ndarray:
    """(documents,) int64 the document whose id names each one's cluster: the smallest id, or the surviving reference.

    survivor: (documents,); ids: (documents,) places of the ids; the first `num_own` documents are the corpus.
    """
    smallest = np.empty(len(survivor), dtype=np.int64)
    by_id = _inverse(ids)
    # Written from the largest id to the smallest: what is written last stays.
    smallest[survivor[by_id[::-1]]] = by_id[::-1]
    return np.where(survivor < num_own, smallest[survivor], survivor)
