"""The scan of a corpus: every document is read once, and what duplicates are sought by is spooled to disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from tasks.curation.characters import text_buffers
from tasks.curation.config import Documents, FuzzyConfig
from tasks.curation.contamination import FINDING, EvaluationIndex
from tasks.curation.documents import RowGroup, list_row_groups, split_of
from tasks.curation.folding import Folded, fold
from tasks.curation.identifiers import IdIndex
from tasks.curation.minhash import band_keys
from tasks.curation.references import DocumentFile, rows_of
from tasks.curation.spool import Fingerprints, Spool, SpoolWriter
from tasks.curation.workers import map_light
from tasks.runtime import Runtime
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from tasks.curation.clusters import Search

PORTION_DOCUMENTS = 512
PORTION_BYTES = 4 << 20
"""Documents are fingerprinted in portions that stay in a core's cache; one that is bigger alone is a portion."""

JOB_BYTES = 64 << 20


class ScanJob(NamedTuple):
    """Row groups of shards, or a file of a reference, to be spooled under the name of the job."""

    name: str
    groups: tuple[RowGroup, ...]
    file: DocumentFile | None
    folder: Path
    fuzzy: FuzzyConfig | None
    evaluation: Path | None


class ScanResult(NamedTuple):
    """parts: as SpoolWriter gives them; findings: (n,) FINDING, document counted from the first of the job."""

    parts: list[tuple[str, int]]
    findings: np.ndarray


class Scan(NamedTuple):
    """All documents: first those of the corpus in the order of its shards, then those of kept references.

    spool: what `find_clusters` asks; ids: a reference's documents as `<name>:<id>`; standing: (documents,) int64,
    smaller for those that stay rather; num_own: documents of the corpus; findings: (n,) FINDING of contaminated ones.
    """

    spool: Spool | Search
    ids: pa.LargeStringArray
    lengths: np.ndarray
    standing: np.ndarray
    num_own: int
    index: IdIndex
    findings: np.ndarray


def scan_corpus(
    workspace: Workspace,
    shards: Sequence[Path],
    folder: Path,
    fuzzy: FuzzyConfig | None,
    *,
    kept: Sequence[tuple[Documents, Sequence[DocumentFile]]] = (),
    evaluation: Path | None = None,
) -> Scan:
    """Spools the documents of all shards and of the kept references into `folder`.

    evaluation: folder of a saved EvaluationIndex that the corpus is searched for. Raises DataError if an id of the
    corpus occurs twice, SourceError for a reference that cannot be read.
    """
    folder.mkdir(parents=True)
    groups = list_row_groups(shards)
    own = _corpus_jobs(groups, workspace.runtime, folder, fuzzy, evaluation)
    others = [
        (position, ScanJob(f"kept-{position:03d}-{number:05d}", (), file, folder, fuzzy, None))
        for position, (_, files) in enumerate(kept)
        for number, file in enumerate(files)
    ]
    jobs = [*own, *(job for _, job in others)]
    results = _run(workspace, jobs, total=sum(group.num_rows for group in groups))
    spool = Spool.of(folder, [part for job in jobs for part in results[job.name].parts])
    ids, num_own = spool.ids(), sum(group.num_rows for group in groups)
    index = IdIndex(ids.slice(0, num_own))
    index.check_unique()
    sizes = [sum(size for _, size in results[job.name].parts) for _, job in others]
    standing = np.concatenate([own_standing(groups, len(kept)), np.repeat([p for p, _ in others], sizes)])
    findings = _shifted([results[job.name].findings for job in own], [job.groups[0].start for job in own])
    return Scan(spool, ids, spool.lengths(), standing.astype(np.int64), num_own, index, findings)


def own_standing(groups: Sequence[RowGroup], first: int) -> np.ndarray:
    """(documents,) int64: behind all references; documents shipped for validation before the others."""
    standing = [first + (split_of(group.path) != "validation") for group in groups]
    return np.repeat(np.array(standing, dtype=np.int64), [group.num_rows for group in groups])


def _shifted(findings: Sequence[np.ndarray], starts: Sequence[int]) -> np.ndarray:
    for found, start in zip(findings, starts, strict=True):
        found["document"] += start
    return np.concatenate([np.zeros(0, FINDING), *findings])


def _run(workspace: Workspace, jobs: Sequence[ScanJob], total: int) -> dict[str, ScanResult]:
    results, done = {}, 0
    workspace.progress(0, total)
    num_bytes = sum(_num_bytes(job) for job in jobs)
    for job, result in map_light(scan, jobs, runtime=workspace.runtime, num_bytes=num_bytes):
        results[job.name] = result
        done += sum(size for _, size in result.parts) if job.file is None else 0
        workspace.progress(done, total)
    return results


def _num_bytes(job: ScanJob) -> int:
    return job.file.path.stat().st_size if job.file else sum(group.num_bytes for group in job.groups)


def _corpus_jobs(
    groups: Sequence[RowGroup],
    runtime: Runtime,
    folder: Path,
    fuzzy: FuzzyConfig | None,
    evaluation: Path | None,
) -> list[ScanJob]:
    """Neighbouring row groups make a job, so that a huge shard is shared and small ones are gathered."""
    room = min(JOB_BYTES, sum(group.num_bytes for group in groups) // (4 * runtime.workers))
    portions: list[list[RowGroup]] = []
    filled = 0
    for group in groups:
        if not portions or filled + group.num_bytes > room:
            portions.append([])
            filled = 0
        portions[-1].append(group)
        filled += group.num_bytes
    return [
        ScanJob(f"own-{number:05d}", tuple(portion), None, folder, fuzzy, evaluation)
        for number, portion in enumerate(portions)
    ]


def scan(job: ScanJob) -> ScanResult:
    """Spools the documents of a job, and searches them for evaluation items if there are any."""
    evaluation = EvaluationIndex.open(job.evaluation) if job.evaluation else None
    findings, done = [], 0
    with SpoolWriter(job.folder, job.name) as writer:
        for ids, texts in _portions(job):
            folded = fold(texts)
            prints = fingerprint(folded, job.fuzzy)
            if evaluation:
                findings.append(evaluation.search(folded, prints.keys, first=done))
            writer.add(ids, texts, prints)
            done += len(ids)
        writer.close()
    return ScanResult(writer.parts, np.concatenate([np.zeros(0, FINDING), *findings]))


def fingerprint(folded: Folded, fuzzy: FuzzyConfig | None) -> Fingerprints:
    """The fingerprints of texts in comparison form; each depends on its own text alone."""
    bounds, data = folded.bounds.tolist(), folded.codes.data
    digests = b"".join(xxhash.xxh3_128_digest(data[start:stop]) for start, stop in pairwise(bounds))
    keys = band_keys(folded, fuzzy) if fuzzy else np.zeros((len(bounds) - 1, 0), dtype=np.uint64)
    return Fingerprints(np.frombuffer(digests, dtype=np.uint8).reshape(-1, 16), np.diff(folded.bounds), keys)


def _portions(job: ScanJob) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Ids and texts, as many at once as PORTION_DOCUMENTS and PORTION_BYTES allow, at least one."""
    tables: Iterator[Any] = rows_of(job.file) if job.file else (group.read(["id", "text"]) for group in job.groups)
    for table in tables:
        ids, texts = (table[name].combine_chunks().cast(pa.large_string()) for name in ("id", "text"))
        _, ends = text_buffers(texts)
        start = 0
        while start < len(texts):
            stop = int(np.searchsorted(ends, ends[start] + PORTION_BYTES, side="right")) - 1
            stop = min(max(stop, start + 1), start + PORTION_DOCUMENTS, len(texts))
            yield ids.slice(start, stop - start), texts.slice(start, stop - start)
            start = stop
