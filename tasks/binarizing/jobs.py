"""Shards cut into jobs by row groups, each encoded into flat files in the scratch, on threads, processes or Dask."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from data_contracts.errors import DataError
from data_contracts.files import write_whole
from data_contracts.rows import TOKENS
from data_contracts.token_files import token_dtype
from tasks import parallel
from tasks.binarizing.encoders import Encoder, FastokensEncoder, Reference, load_encoder, load_reference
from tasks.binarizing.verification import refuse_wrong_ids, sampled, unusual, verify
from tasks.runtime import Runtime

JOB_BYTES = 32 << 20
"""Uncompressed size of a job, so that one huge shard keeps every worker busy; never less than a row group."""

ROWS_PER_BATCH = 512

THREADS_PER_PROCESS = 8
"""Reading texts and checking some of them holds Python's lock for about a tenth of the time, so more would wait."""


class Tools(NamedTuple):
    """What a job encodes with and is checked against."""

    encoder: Encoder
    reference: Reference


class EncodeJob(NamedTuple):
    """Some consecutive row groups of one shard.

    stem: path in the scratch, without suffix, of what the job writes. first_row: of the shard, from 0. num_bytes:
    uncompressed. encoder: the name of the one that was chosen.
    """

    shard: Path
    row_groups: tuple[int, ...]
    first_row: int
    num_shard_rows: int
    num_bytes: int
    stem: Path
    tokenizer: Path
    encoder: str
    append_eod: bool
    allow_control_tokens: bool


class PartTokens(BaseModel):
    """Counts of one job; num_sampled and num_unusual: how many documents were verified for which reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_documents: int = 0
    num_tokens: int = 0
    num_characters: int = 0
    num_sampled: int = 0
    num_unusual: int = 0

    def __add__(self, other: PartTokens) -> PartTokens:
        return PartTokens(**{name: value + getattr(other, name) for name, value in self})


def cut(shard: Path) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Row groups, first row and uncompressed bytes of each job of a shard; the same whatever the number of workers."""
    metadata = pq.read_metadata(shard)
    groups: list[int] = []
    first_row = num_rows = num_bytes = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if groups and num_bytes + group.total_byte_size > JOB_BYTES:
            yield tuple(groups), first_row, num_bytes
            groups, first_row, num_bytes = [], num_rows, 0
        groups.append(number)
        num_rows += group.num_rows
        num_bytes += group.total_byte_size
    if groups:
        yield tuple(groups), first_row, num_bytes


def encode_all(
    jobs: list[EncodeJob], tools: Tools, runtime: Runtime
) -> Generator[tuple[EncodeJob, PartTokens], None, None]:
    """Each job with its counts, in the order in which they end; a job that an earlier attempt finished comes first.

    fastokens runs on threads of this process: they share what took it a second to load, and its cache of words.
    Above THREADS_PER_PROCESS workers, or with an encoder that holds Python's lock, worker processes are worth their
    start if there is enough to do.
    """
    waiting = []
    for job in jobs:
        if (done := job.stem.with_suffix(".json")).is_file():
            yield job, PartTokens.model_validate_json(done.read_text(encoding="utf-8"))
        else:
            waiting.append(job)
    num_bytes = sum(job.num_bytes for job in waiting)
    threads = min(runtime.workers, THREADS_PER_PROCESS) if tools.encoder.name == FastokensEncoder.name else 1
    if runtime.engine == "dask" or (runtime.workers > threads and num_bytes >= parallel.INLINE_BYTES):
        yield from parallel.map_jobs(encode_elsewhere, waiting, runtime=runtime, num_bytes=num_bytes)
    else:
        yield from _encode_on_threads(waiting, tools, threads)


def _encode_on_threads(jobs: list[EncodeJob], tools: Tools, threads: int) -> Iterator[tuple[EncodeJob, PartTokens]]:
    with ThreadPoolExecutor(threads, thread_name_prefix="encode") as pool:
        try:
            futures = {pool.submit(encode, job, tools): job for job in jobs}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def encode_elsewhere(job: EncodeJob) -> PartTokens:
    """Does a job in a process that has not loaded the tokenizer yet, or loaded it for the job before."""
    return encode(job, _loaded(job.tokenizer, job.encoder, job.allow_control_tokens))


@lru_cache(maxsize=1)
def _loaded(tokenizer: Path, encoder: str, allow_control_tokens: bool) -> Tools:
    reference = load_reference(tokenizer, allow_control_tokens)
    return Tools(load_encoder(encoder, tokenizer, allow_control_tokens, reference), reference)


def encode(job: EncodeJob, tools: Tools) -> PartTokens:
    """Writes `<stem>.bin` (tokens), `<stem>.arrow` (TOKENS rows) and last `<stem>.json` (the counts).

    Raises DataError for a document whose ids are wrong or that would be empty.
    """
    counts, first_row = PartTokens(), job.first_row
    with (
        pq.ParquetFile(job.shard) as documents,
        open(job.stem.with_suffix(".bin"), "wb") as tokens,
        pa.ipc.new_file(job.stem.with_suffix(".arrow"), TOKENS) as rows,
    ):
        batches = documents.iter_batches(ROWS_PER_BATCH, job.row_groups, columns=["id", "text"], use_threads=False)
        for batch in batches:
            flat, table, part = _encode_batch(batch, first_row, job, tools)
            tokens.write(flat.data)
            rows.write_batch(table)
            counts, first_row = counts + part, first_row + batch.num_rows
    write_whole(job.stem.with_suffix(".json"), counts.model_dump_json())
    return counts


def _encode_batch(
    batch: pa.RecordBatch, first_row: int, job: EncodeJob, tools: Tools
) -> tuple[np.ndarray, pa.RecordBatch, PartTokens]:
    """Tokens as they lie in the `.bin`, (tokens,), a row of TOKENS for each document, and the counts."""
    names, column, where = batch.column("id"), batch.column("text"), job.shard.name
    texts = column.to_numpy(zero_copy_only=False).tolist()
    ids, offsets = tools.encoder.encode(texts)
    refuse_wrong_ids(ids, offsets, names, where, tools.reference, job.allow_control_tokens)
    in_sample, is_unusual = sampled(first_row, len(texts), job.num_shard_rows), unusual(column)
    verify(np.flatnonzero(in_sample | is_unusual), texts, names, ids, offsets, where, tools.reference)
    lengths = np.diff(offsets) + job.append_eod
    if not lengths.all():
        raise DataError(
            f"`{where}`: document {names[int(lengths.argmin())].as_py()}: it gives no token, expected at least one",
            hint="set `append_eod`, or remove empty documents with a filter on their length",
        )
    flat = np.insert(ids, offsets[1:], tools.reference.eod_token_id) if job.append_eod else ids
    characters = pc.utf8_length(column).cast(pa.int64())
    counts = PartTokens(
        num_documents=len(texts),
        num_tokens=len(flat),
        num_characters=pc.sum(characters).as_py() or 0,
        num_sampled=int(in_sample.sum()),
        num_unusual=int((is_unusual & ~in_sample).sum()),
    )
    table = pa.record_batch([names, characters, pa.array(lengths)], schema=TOKENS)
    return flat.astype(token_dtype(tools.reference.vocabulary_size)), table, counts
