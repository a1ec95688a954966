"""Clusters of duplicates: equal comparison texts, and pairs of documents whose n-gram sets are similar enough."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import xxhash

from tasks.curation.candidates import BandJob, Compared, compare_candidates, edges_of, read_edges
from tasks.curation.components import connect, first_ranking, keep_best, roots_of, unite_all
from tasks.curation.config import FuzzyConfig
from tasks.curation.folding import Folded, fold
from tasks.curation.minhash import gram_sets
from tasks.curation.spool import Spool
from tasks.runtime import Runtime

BLOCK_CHARACTERS = 4 << 20
"""A bucket of more text is connected block by block. No setting: it may decide which edge connects two documents."""

LEADING_RANKS = 8


class Edges(NamedTuple):
    """Confirmed near-duplicates, on disk. files: EDGE rows; lowest: their lowest similarity, None if there are none."""

    files: tuple[Path, ...]
    num_compared: int
    num_edges: int
    lowest: float | None

    def portions(self) -> Iterator[np.ndarray]:
        """EDGE rows."""
        return read_edges(self.files)


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


class Search(Protocol):
    """What an engine knows of all documents once it has scanned them."""

    def twins(self, rank: np.ndarray, active: np.ndarray) -> np.ndarray:
        """(documents,) int64: for each active one the first-ranking with the same comparison text, else itself."""
        ...

    def compare(
        self, among: np.ndarray, lengths: np.ndarray, fuzzy: FuzzyConfig, runtime: Runtime, folder: Path
    ) -> Compared:
        """As `compare_candidates`."""
        ...

    def folded(self, documents: np.ndarray) -> Folded:
        """The comparison forms of some documents, in that order."""
        ...


class SpooledSearch(NamedTuple):
    """The search of the local engine, over what the scan left on disk."""

    spool: Spool

    def twins(self, rank: np.ndarray, active: np.ndarray) -> np.ndarray:
        return _twins(self.spool.digests(), rank, active)

    def compare(
        self, among: np.ndarray, lengths: np.ndarray, fuzzy: FuzzyConfig, runtime: Runtime, folder: Path
    ) -> Compared:
        return compare_candidates(self.spool, among, lengths, fuzzy, runtime, folder)

    def folded(self, documents: np.ndarray) -> Folded:
        order = np.sort(documents)
        return fold(self.spool.texts(order).take(np.searchsorted(order, documents)))


def find_clusters(
    scanned: Spool | Search,
    lengths: np.ndarray,
    rank: np.ndarray,
    *,
    exact: bool,
    fuzzy: FuzzyConfig | None,
    runtime: Runtime,
    folder: Path,
    without: np.ndarray | None = None,
) -> Clusters:
    """The connected components of the documents under "equal comparison text" and "Jaccard >= threshold".

    lengths: (documents,) characters; rank: (documents,) int64, a permutation that depends on the documents and not on
    their order: the smaller, the sooner a document survives; folder: where edges and what leads to them are written;
    without: documents that stay alone. Chains count: A and C are in one cluster if both are similar to B. The result
    is the same for every order of the documents and whatever the runtime.
    """
    search = SpooledSearch(scanned) if isinstance(scanned, Spool) else scanned
    size = len(rank)
    active = np.ones(size, dtype=bool)
    if without is not None:
        active[without] = False
    twin = search.twins(rank, active) if exact else np.arange(size)
    parents = np.arange(size)
    unite_all(parents, parents.copy(), twin)
    partner, similarity = np.full(size, -1), np.zeros(size)
    edges = Edges((), 0, 0, None)
    if fuzzy:
        among = np.flatnonzero((twin == np.arange(size)) & active)
        edges = _near_duplicates(search, among, lengths, rank, parents, fuzzy, runtime, folder)
        for portion in edges.portions():
            keep_best(partner, similarity, rank, portion["first"], portion["second"], portion["jaccard"])
    return Clusters(first_ranking(parents, rank), twin, partner, similarity, edges)


def _twins(digests: np.ndarray, rank: np.ndarray, active: np.ndarray) -> np.ndarray:
    """For each active document the first-ranking one with the same digest; the others are their own."""
    among = np.flatnonzero(active)
    order = among[np.lexsort((rank[among], digests[among, 1], digests[among, 0]))]
    starts = np.ones(len(order), dtype=bool)
    for half in (0, 1):
        ordered = digests[order, half]
        same = ordered[1:] == ordered[:-1]
        starts[1:] = ~same if half == 0 else starts[1:] | ~same
    twin = np.arange(len(rank))
    twin[order] = order[starts][np.cumsum(starts) - 1]
    return twin


def _near_duplicates(
    search: Search,
    among: np.ndarray,
    lengths: np.ndarray,
    rank: np.ndarray,
    parents: np.ndarray,
    fuzzy: FuzzyConfig,
    runtime: Runtime,
    folder: Path,
) -> Edges:
    """Pairs of the documents `among` whose n-gram sets have a Jaccard similarity of at least the threshold.

    Candidates are the pairs that share a MinHash band; every one of them is decided by its exact similarity, never by
    the sketch. In a bucket of more than MAX_BUCKET documents a pair whose ends are already connected is not compared:
    the components stay the same. parents: the union-find forest, updated.
    """
    compared = search.compare(among, lengths, fuzzy, runtime, folder)
    num_compared, num_edges, lowest = compared.num_compared, 0, 2.0
    for portion in read_edges(compared.edges):
        unite_all(parents, portion["first"], portion["second"])
    with open(folder / "big.edges", "wb") as file:
        for bucket in _big_buckets(compared.bands, rank):
            for pairs, scores, number in _connect(search, bucket, lengths, parents, fuzzy):
                file.write(edges_of(pairs, scores).data)
                num_compared += number
    files = (*compared.edges, folder / "big.edges")
    for portion in read_edges(files):
        num_edges += len(portion)
        lowest = min(lowest, float(portion["jaccard"].min()))
    return Edges(files, num_compared, num_edges, lowest if num_edges else None)


def _connect(
    search: Search, bucket: np.ndarray, lengths: np.ndarray, parents: np.ndarray, fuzzy: FuzzyConfig
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """What `connect` gives for each pair of blocks of a bucket; sets of n-grams of two blocks are in memory."""
    blocks = np.split(bucket, np.flatnonzero(np.diff(np.cumsum(lengths[bucket]) // BLOCK_CHARACTERS)) + 1)
    for number, block in enumerate(blocks):
        for earlier in (*blocks[:number], None):
            members = block if earlier is None else np.concatenate((earlier, block))
            if len(np.unique(roots_of(parents, members))) > 1:
                sets = gram_sets(search.folded(members), fuzzy.ngram_characters)
                split = 0 if earlier is None else len(earlier)
                yield connect(sets, members, split, parents, fuzzy.jaccard_threshold)


class _Bucket(NamedTuple):
    """A bucket on disk. leading: its lowest ranks, in an order of bytes that is that of the ranks."""

    leading: bytes
    band: BandJob
    start: int
    size: int

    def members(self) -> np.ndarray:
        return np.fromfile(self.band.path("big"), dtype=np.int64, count=self.size, offset=self.start * 8)


def _big_buckets(bands: tuple[BandJob, ...], rank: np.ndarray) -> Iterator[np.ndarray]:
    """Big buckets in an order that depends on their documents alone, members by rank; equal ones once."""
    found: dict[bytes, _Bucket] = {}
    for band in bands:
        start = 0
        for size in np.load(band.path("sizes.npy")).tolist():
            bucket = _Bucket(b"", band, start, size)
            ranks = _rank_bytes(bucket, rank)
            found.setdefault(xxhash.xxh3_128_digest(ranks), bucket._replace(leading=ranks[: 8 * LEADING_RANKS]))
            start += size
    in_order = sorted(found.values(), key=lambda bucket: bucket.leading)
    for _, alike in groupby(in_order, key=lambda bucket: bucket.leading):
        for bucket in sorted(alike, key=lambda bucket: _rank_bytes(bucket, rank)):
            members = bucket.members()
            yield members[np.argsort(rank[members])]


def _rank_bytes(bucket: _Bucket, rank: np.ndarray) -> bytes:
    return np.sort(rank[bucket.members()]).astype(">i8").tobytes()
