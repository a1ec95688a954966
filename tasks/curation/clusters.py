"""Clusters of duplicates: equal comparison texts, and pairs of documents whose n-gram sets are similar enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import xxhash

from tasks.curation.components import connect, roots, roots_of, unite_all
from tasks.curation.config import FuzzyConfig
from tasks.curation.folding import Folded, fold
from tasks.curation.minhash import band_keys, find_candidates, gram_sets, jaccards

Result = TypeVar("Result")

SLICE_DOCUMENTS = 512
BATCH_PAIRS = 16_384
BATCH_CHARACTERS = 16 << 20
"""Pairs are compared in batches of at most this much text, whose n-gram sets take 8 bytes a character."""


class Fingerprints(NamedTuple):
    """What is kept of each document while duplicates are sought.

    digests: (documents, 2) uint64 xxh3_128 of the comparison text; lengths: (documents,) int64 its characters; keys:
    (documents, bands) uint64 MinHash band keys, no columns without a fuzzy config.
    """

    digests: np.ndarray
    lengths: np.ndarray
    keys: np.ndarray


class Edges(NamedTuple):
    """Confirmed near-duplicates: (edges, 2) int64 documents, (edges,) float64 Jaccard; pairs compared for them."""

    pairs: np.ndarray
    jaccard: np.ndarray
    num_compared: int


class Clusters(NamedTuple):
    """Which documents are duplicates of which.

    survivor: (documents,) int64 the document of each one's cluster that ranks first, itself if alone; twin:
    (documents,) int64 the first-ranking document with equal comparison text, itself if none (or if exact duplicates
    were not sought); partner, similarity: (documents,) the other end of its best edge, -1 if none, and its Jaccard.
    """

    survivor: np.ndarray
    twin: np.ndarray
    partner: np.ndarray
    similarity: np.ndarray
    edges: Edges


def fingerprint(
    texts: pa.ChunkedArray,
    fuzzy: FuzzyConfig | None,
    *,
    threads: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> Fingerprints:
    """The fingerprints of all texts; each depends on its own text alone. progress is called with documents done."""
    slices = [texts.slice(start, SLICE_DOCUMENTS) for start in range(0, len(texts), SLICE_DOCUMENTS)]
    parts, done = [], 0
    for part in _in_threads(lambda rows: _fingerprint(rows, fuzzy), slices, threads):
        parts.append(part)
        done += len(part.lengths)
        progress(done)
    empty = _fingerprint(pa.chunked_array([], pa.string()), fuzzy)
    return Fingerprints(*(np.concatenate(columns) for columns in zip(empty, *parts, strict=True)))


def _fingerprint(texts: pa.ChunkedArray, fuzzy: FuzzyConfig | None) -> Fingerprints:
    folded = fold(texts)
    bounds, data = folded.bounds.tolist(), folded.codes.data
    digests = b"".join(xxhash.xxh3_128_digest(data[start:stop]) for start, stop in pairwise(bounds))
    keys = band_keys(folded, fuzzy) if fuzzy else np.zeros((len(texts), 0), dtype=np.uint64)
    return Fingerprints(np.frombuffer(digests, dtype=">u8").reshape(-1, 2), np.diff(folded.bounds), keys)


def _in_threads(function: Callable[..., Result], items: list, threads: int) -> Iterator[Result]:
    """Results in the order of the items; the kernels let go of the GIL."""
    if threads <= 1 or len(items) <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(function, items)


def find_clusters(
    texts: pa.ChunkedArray,
    prints: Fingerprints,
    rank: np.ndarray,
    *,
    exact: bool,
    fuzzy: FuzzyConfig | None,
    threads: int = 1,
) -> Clusters:
    """The connected components of the documents under "equal comparison text" and "Jaccard >= threshold".

    rank: (documents,) int64, a permutation that depends on the documents and not on their order: the smaller, the
    sooner a document survives. Chains count: A and C are in one cluster if both are similar to B. The result is
    the same for every order of the documents and every number of threads.
    """
    size = len(texts)
    twin = _twins(prints.digests, rank) if exact else np.arange(size)
    parents = np.arange(size)
    first = np.flatnonzero(twin == parents)
    edges = Edges(np.zeros((0, 2), np.int64), np.zeros(0), 0)
    if fuzzy:
        edges = near_duplicate_pairs(texts, first, prints, rank, fuzzy, threads=threads)
    for pairs in (edges.pairs, np.stack((np.arange(size), twin), axis=1)):
        unite_all(parents, pairs)
    partner, similarity = _best_edges(size, edges, rank)
    return Clusters(_first_ranking(roots(parents), rank), twin, partner, similarity, edges)


def _twins(digests: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """For each document the first-ranking one with the same digest."""
    order = np.lexsort((rank, digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    twin = np.empty(len(order), dtype=np.int64)
    twin[order] = order[starts][np.cumsum(starts) - 1]
    return twin


def _first_ranking(labels: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """For each document the first-ranking one of those with the same label."""
    order = np.lexsort((rank, labels))
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = labels[order][1:] != labels[order][:-1]
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[starts][np.cumsum(starts) - 1]
    return first


def _best_edges(size: int, edges: Edges, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each document the other end and the similarity of its best edge; of equal ones, to the first-ranking."""
    ends = np.concatenate((edges.pairs, edges.pairs[:, ::-1]))
    scores = np.concatenate((edges.jaccard, edges.jaccard))
    # Written from the worst to the best: what is written last stays.
    order = np.lexsort((-rank[ends[:, 1]], scores))
    partner, similarity = np.full(size, -1), np.zeros(size)
    partner[ends[order, 0]] = ends[order, 1]
    similarity[ends[order, 0]] = scores[order]
    return partner, similarity


def near_duplicate_pairs(
    texts: pa.ChunkedArray,
    among: np.ndarray,
    prints: Fingerprints,
    rank: np.ndarray,
    fuzzy: FuzzyConfig,
    *,
    threads: int = 1,
) -> Edges:
    """Pairs of the documents `among` whose n-gram sets have a Jaccard similarity of at least the threshold.

    among: (n,) int64 documents to look at. Candidates are the pairs that share a MinHash band; every one of them is
    decided by its exact similarity, never by the sketch. In a bucket of more than MAX_BUCKET documents a pair whose
    ends are already connected is not compared: the components stay the same, and k copies cost k comparisons instead
    of k^2 / 2.
    """
    candidates = find_candidates(prints.keys[among])
    pairs = among[candidates.pairs]
    scores = np.empty(len(pairs))
    bounds = list(_batches(pairs, prints.lengths))
    for (start, stop), part in zip(
        bounds,
        _in_threads(lambda b: _exact(texts, pairs[b[0] : b[1]], fuzzy), bounds, threads),
        strict=True,
    ):
        scores[start:stop] = part
    near = scores >= fuzzy.jaccard_threshold
    found, similar, num_compared = [pairs[near]], [scores[near]], len(pairs)
    parents, seen = np.arange(len(texts)), np.zeros(len(texts), dtype=bool)
    unite_all(parents, pairs[near])
    for bucket in _in_order([among[bucket] for bucket in candidates.big_buckets], rank):
        if len(np.unique(roots_of(parents, bucket))) > 1:
            sets = gram_sets(_folded(texts, bucket), fuzzy.ngram_characters)
            edges = Edges(*connect(*sets, bucket, parents, seen, fuzzy.jaccard_threshold))
            found.append(edges.pairs)
            similar.append(edges.jaccard)
            num_compared += edges.num_compared
    return Edges(np.concatenate(found), np.concatenate(similar), num_compared)


def _batches(pairs: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """Bounds of batches of pairs by number and by text; a pair that is too big alone is a batch of its own."""
    characters = np.cumsum(lengths[pairs].sum(axis=1)) if len(pairs) else np.zeros(0, np.int64)
    start = 0
    while start < len(pairs):
        before = characters[start - 1] if start else 0
        stop = int(np.searchsorted(characters, before + BATCH_CHARACTERS, side="right"))
        stop = min(max(stop, start + 1), start + BATCH_PAIRS)
        yield start, stop
        start = stop


def _exact(texts: pa.ChunkedArray, pairs: np.ndarray, fuzzy: FuzzyConfig) -> np.ndarray:
    documents, places = np.unique(pairs, return_inverse=True)
    sets = gram_sets(_folded(texts, documents), fuzzy.ngram_characters)
    return jaccards(*sets, places.reshape(-1, 2), fuzzy.jaccard_threshold)


def _folded(texts: pa.ChunkedArray, documents: np.ndarray) -> Folded:
    return fold(texts.take(pa.array(documents)))


def _in_order(buckets: list[np.ndarray], rank: np.ndarray) -> list[np.ndarray]:
    """Big buckets in an order that depends on their documents alone, members by rank; equal ones once."""
    ordered = {tuple(np.sort(rank[bucket]).tolist()): bucket[np.argsort(rank[bucket])] for bucket in buckets}
    return [ordered[key] for key in sorted(ordered)]
