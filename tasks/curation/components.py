"""Connected components of documents by union-find, and how a big bucket of candidates is connected."""

from __future__ import annotations

import numba
import numpy as np

from tasks.curation.minhash import jaccard


@numba.njit(cache=True, nogil=True)
def _root(parents, document):
    while parents[document] != document:
        parents[document] = parents[parents[document]]
        document = parents[document]
    return document


@numba.njit(cache=True, nogil=True)
def roots_of(parents, documents):
    """Root of each of the documents in the forest `parents`, which is shortened on the way."""
    result = np.empty(len(documents), dtype=np.int64)
    for index in range(len(documents)):
        result[index] = _root(parents, documents[index])
    return result


def roots(parents: np.ndarray) -> np.ndarray:
    """(documents,) int64 label of each one's component in a union-find forest."""
    return roots_of(parents, np.arange(len(parents)))


@numba.njit(cache=True, nogil=True)
def unite_all(parents, pairs):
    """Joins the components of both ends of each pair, in place."""
    for index in range(len(pairs)):
        first, second = _root(parents, pairs[index, 0]), _root(parents, pairs[index, 1])
        parents[max(first, second)] = min(first, second)


@numba.njit(cache=True, nogil=True)
def connect(values, bounds, bucket, parents, seen, threshold):
    """Edges that connect what can be connected within a bucket, their similarities, and how many pairs were compared.

    parents: the union-find forest, updated; seen: (documents,) bool, all False before and after.
    """
    # Every union joins two components, so a bucket of k documents has at most k - 1 edges.
    pairs = np.empty((len(bucket), 2), dtype=np.int64)
    scores = np.empty(len(bucket), dtype=np.float64)
    found, compared, components = 0, 0, 0
    for second in range(len(bucket)):
        b = _root(parents, bucket[second])
        components += not seen[b]
        seen[b] = True
        for first in range(second):
            if components == 1:
                break
            a = _root(parents, bucket[first])
            if a == b:
                continue
            compared += 1
            score = jaccard(values, bounds, first, second, threshold)
            if score >= threshold:
                parents[max(a, b)] = min(a, b)
                seen[max(a, b)] = False
                b = min(a, b)
                components -= 1
                pairs[found, 0], pairs[found, 1] = bucket[first], bucket[second]
                scores[found] = score
                found += 1
    for document in bucket:
        seen[_root(parents, document)] = False
    return pairs[:found], scores[:found], compared
