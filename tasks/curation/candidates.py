"""Candidate pairs by shared bands, sorted on disk, and their exact similarities, in bounded memory.

Each band is a job that leaves the pairs of its buckets as sorted runs of codes, first * 2^32 + second. Pairs are then
gathered over all bands by their first document: cells of CELL_DOCUMENTS documents are told apart in every run, and
neighbouring cells make the jobs that compare texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np

from tasks.curation.config import FuzzyConfig
from tasks.curation.folding import fold
from tasks.curation.minhash import gram_sets, jaccards
from tasks.curation.spool import Spool
from tasks.curation.workers import WORKER_BYTES, map_light
from tasks.runtime import Runtime

MAX_BUCKET = 64
"""Buckets of more documents are not spelled out as pairs, whose number grows with the square."""

CELL_DOCUMENTS = 4096
RUN_CODES = 4 << 20
BYTES_PER_CODE = 48
"""Memory that a code takes while it is made unique and its pair compared, texts aside."""

BATCH_PAIRS = 16_384
BATCH_CHARACTERS = 4 << 20
"""Pairs are compared in batches of at most this much text, which takes about 27 bytes a character."""

CODES_PER_PAIR = 8
"""Bands that a pair shares, roughly; only used to guess how much work there is."""

BAND_BYTES_PER_DOCUMENT = 56
"""Memory that sorting a band takes."""

EDGE = np.dtype([("first", np.int64), ("second", np.int64), ("jaccard", np.float64)])
"""A confirmed near-duplicate pair."""

READ_EDGES = 1 << 20


class BandJob(NamedTuple):
    """The pairs of one band. among: file with the (n,) int64 documents to look at."""

    band: int
    spool: Spool
    among: Path
    max_bucket: int
    folder: Path

    def path(self, kind: str) -> Path:
        """`codes`: runs of codes; `cells.npy`: (runs, cells + 1) where each cell begins in its run; `big` and
        `sizes.npy`: members of the buckets that are too big, and how many each has."""
        return self.folder / f"band-{self.band:04d}.{kind}"


class PairJob(NamedTuple):
    """The pairs of all bands whose first document lies in a range of cells."""

    cells: tuple[int, int]
    bands: tuple[BandJob, ...]
    spool: Spool
    lengths: Path
    fuzzy: FuzzyConfig
    edges: Path


class Compared(NamedTuple):
    """What became of the candidates. edges: files of EDGE, by pair; bands: jobs whose big buckets are still to do."""

    edges: tuple[Path, ...]
    num_compared: int
    bands: tuple[BandJob, ...]


def compare_candidates(
    spool: Spool, among: np.ndarray, lengths: np.ndarray, fuzzy: FuzzyConfig, runtime: Runtime, folder: Path
) -> Compared:
    """Every pair of documents `among` that shares a bucket of at most MAX_BUCKET, decided by its exact similarity.

    lengths: (documents,) characters of each. Only how the pairs are spread over files depends on the runtime.
    """
    folder.mkdir(parents=True)
    np.save(folder / "lengths.npy", lengths)
    np.save(folder / "among.npy", among)
    bands = tuple(
        BandJob(band, spool, folder / "among.npy", MAX_BUCKET, folder)
        for band in range(fuzzy.bands if len(among) else 0)
    )
    # Sorting a key takes about as long as scanning five bytes of text.
    sorting = WORKER_BYTES + BAND_BYTES_PER_DOCUMENT * len(among)
    num_bytes = 5 * len(among) * len(bands)
    for _ in map_light(scan_band, bands, runtime=runtime, num_bytes=num_bytes, worker_bytes=sorting):
        pass
    spool.remove("keys")
    jobs = _pair_jobs(spool, bands, fuzzy, runtime, folder)
    num_bytes = _text_compared(spool, sum(band.path("codes").stat().st_size // 8 for band in bands))
    num_compared = 0
    for _, number in map_light(compare, jobs, runtime=runtime, num_bytes=num_bytes, worker_bytes=2 * WORKER_BYTES):
        num_compared += number
    for band in bands:
        band.path("codes").unlink()
    return Compared(tuple(job.edges for job in jobs), num_compared, bands)


def _text_compared(spool: Spool, num_codes: int) -> int:
    """Text that is hashed to compare that many codes, roughly; merging two sets takes a twentieth of making them."""
    num_pairs = num_codes // CODES_PER_PAIR
    num_texts = min(2 * num_pairs, spool.num_documents) + num_pairs // 20
    return num_texts * spool.num_text_bytes() // max(1, spool.num_documents)


def read_edges(files: tuple[Path, ...]) -> Iterator[np.ndarray]:
    """EDGE rows of the files in order, in portions."""
    for path in files:
        for start in range(0, path.stat().st_size // EDGE.itemsize, READ_EDGES):
            yield np.fromfile(path, dtype=EDGE, count=READ_EDGES, offset=start * EDGE.itemsize)


def scan_band(job: BandJob) -> None:
    """Finds the buckets of a band by sorting its keys."""
    among = np.load(job.among)
    keys = job.spool.band(job.band)[among]
    order = np.argsort(keys)
    keys = keys[order]
    same = np.zeros(len(keys) + 1, dtype=bool)
    same[1:-1] = keys[1:] == keys[:-1]
    del keys
    starts = np.flatnonzero(~same[:-1] & same[1:])
    stops = np.flatnonzero(same[:-1] & ~same[1:]) + 1
    sizes = stops - starts
    small = sizes <= job.max_bucket
    order = among[order]
    _write_codes(job, order, starts[small], stops[small])
    with open(job.path("big"), "wb") as file:
        for start, stop in zip(starts[~small].tolist(), stops[~small].tolist(), strict=True):
            file.write(order[start:stop].data)
    np.save(job.path("sizes.npy"), sizes[~small])


def _write_codes(job: BandJob, order: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> None:
    num_cells = -(-job.spool.num_documents // CELL_DOCUMENTS)
    edges_of_cells = (np.arange(num_cells + 1, dtype=np.int64) * CELL_DOCUMENTS) << 32
    sizes = stops - starts
    ends = np.cumsum(sizes * (sizes - 1) // 2)
    cells, done, written = [np.zeros((0, num_cells + 1), np.int64)], 0, 0
    with open(job.path("codes"), "wb") as file:
        while done < len(starts):
            stop = max(int(np.searchsorted(ends, written + RUN_CODES, side="right")), done + 1)
            codes = _bucket_pairs(order, starts[done:stop], stops[done:stop])
            codes.sort()
            file.write(codes.data)
            cells.append(written + np.searchsorted(codes, edges_of_cells)[None])
            done, written = stop, written + len(codes)
    np.save(job.path("cells.npy"), np.concatenate(cells))


@numba.njit(cache=True, nogil=True)
def _bucket_pairs(order, starts, stops):
    """All pairs of each run of `order`, as first * 2^32 + second."""
    total = 0
    for run in range(len(starts)):
        size = stops[run] - starts[run]
        total += size * (size - 1) // 2
    codes = np.empty(total, dtype=np.int64)
    place = 0
    for run in range(len(starts)):
        for i in range(starts[run], stops[run]):
            for j in range(i + 1, stops[run]):
                first, second = min(order[i], order[j]), max(order[i], order[j])
                codes[place] = (first << 32) | second
                place += 1
    return codes


def _pair_jobs(
    spool: Spool, bands: tuple[BandJob, ...], fuzzy: FuzzyConfig, runtime: Runtime, folder: Path
) -> list[PairJob]:
    """Neighbouring cells make a job as long as their codes have room in a worker."""
    sizes = np.zeros(-(-spool.num_documents // CELL_DOCUMENTS), dtype=np.int64)
    for band in bands:
        sizes += np.diff(np.load(band.path("cells.npy")), axis=1).sum(axis=0)
    room = min(WORKER_BYTES // BYTES_PER_CODE, int(sizes.sum()) // (4 * runtime.workers))
    groups: list[list[int]] = []
    filled = 0
    for cell in np.flatnonzero(sizes).tolist():
        if not groups or filled + sizes[cell] > room:
            groups.append([cell, cell])
            filled = 0
        groups[-1][1] = cell + 1
        filled += sizes[cell]
    lengths = folder / "lengths.npy"
    return [PairJob((a, b), bands, spool, lengths, fuzzy, folder / f"{a:06d}.edges") for a, b in groups]


def compare(job: PairJob) -> int:
    """Compares the pairs of a job and writes those that are similar enough; how many were compared."""
    codes = np.unique(np.concatenate([codes for band in job.bands for codes in _codes(band, *job.cells)]))
    pairs = np.stack(np.divmod(codes, np.int64(1 << 32)), axis=1)
    del codes
    lengths = np.load(job.lengths, mmap_mode="r")
    with open(job.edges, "wb") as file:
        for start, stop in _batches(pairs, lengths):
            file.write(_near(job.spool, pairs[start:stop], job.fuzzy).data)
    return len(pairs)


def _codes(band: BandJob, first: int, stop: int) -> Iterator[np.ndarray]:
    cells = np.load(band.path("cells.npy"), mmap_mode="r")
    for start, end in cells[:, (first, stop)].tolist():
        yield np.fromfile(band.path("codes"), dtype=np.int64, count=end - start, offset=start * 8)


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


def _near(spool: Spool, pairs: np.ndarray, fuzzy: FuzzyConfig) -> np.ndarray:
    documents, places = np.unique(pairs, return_inverse=True)
    sets = gram_sets(fold(spool.texts(documents)), fuzzy.ngram_characters)
    scores = jaccards(*sets, places.reshape(-1, 2), fuzzy.jaccard_threshold)
    return edges_of(pairs, scores)[scores >= fuzzy.jaccard_threshold]


def edges_of(pairs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(pairs,) EDGE."""
    edges = np.empty(len(pairs), dtype=EDGE)
    edges["first"], edges["second"], edges["jaccard"] = pairs[:, 0], pairs[:, 1], scores
    return edges
