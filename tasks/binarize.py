"""Stage `binarize`: documents become Megatron token files, each document's tokens counted and proved."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import closing
from importlib import metadata
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.artifacts import Corpus, Part
from data_contracts.errors import ReconciliationError
from data_contracts.files import HashingFile
from data_contracts.manifest import Summary
from data_contracts.rows import ROWS_PER_GROUP, TOKENS
from data_contracts.token_files import TokenFile, token_dtype, write_index
from tasks.binarizing.encoders import Chosen, EncoderName, Reference, choose_encoder, load_reference
from tasks.binarizing.jobs import EncodeJob, PartTokens, Tools, cut, encode_all
from tasks.runtime import NOT_IDENTITY
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

SPLITS = ("train", "validation")
COPY_BYTES = 4 << 20


class BinarizeConfig(BaseModel):
    """How documents become tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str = Field(
        default="", pattern="^[A-Za-z0-9_]*$", description="Before the file names, as in `ja_wiki_train_text_document`."
    )
    append_eod: bool = Field(default=True, description="End each document with the tokenizer's end-of-text token.")
    allow_control_tokens: bool = Field(
        default=False, description="Let text such as `<|endoftext|>` become that control token."
    )
    encoder: EncoderName = Field(
        default="auto",
        json_schema_extra=NOT_IDENTITY,
        description="What encodes: `fastokens`, `tokenizers`, or `auto`: fastokens if it loads the tokenizer and gives "
        "the reference's ids for every probe text, else tokenizers. The ids are the same.",
    )


class _Scene(NamedTuple):
    """What the steps of one run share."""

    config: BinarizeConfig
    workspace: Workspace
    corpus: Corpus
    reference: Reference

    def stem(self, split: str) -> str:
        return f"{self.config.prefix}{split}_text_document"

    @property
    def dtype(self) -> np.dtype:
        return token_dtype(self.reference.vocabulary_size)


def binarize(config: BinarizeConfig, workspace: Workspace, corpus: Corpus, tokenizer: Part) -> Summary:
    """Writes `<prefix>{train,validation}_text_document.{bin,idx}` and `<split>_tokens.parquet`, then reads them back.

    Raises ModelError for a tokenizer without end-of-text token, DataError for ids that differ from the reference
    tokenizer's or a document without any, ReconciliationError when documents or tokens written differ from those
    counted.
    """
    reference = load_reference(tokenizer.path, config.allow_control_tokens)
    chosen = choose_encoder(config.encoder, tokenizer.path, config.allow_control_tokens, reference)
    if config.encoder == "auto" and chosen.encoder.name != "fastokens":
        log.warning("binarize: encoding with `%s`, which is slow: %s", chosen.encoder.name, chosen.reason)
    scene = _Scene(config, workspace, corpus, reference)
    jobs = {split: _jobs(split, scene, tokenizer, chosen.encoder.name) for split in SPLITS}
    counts: dict[str, int] = {}
    total = PartTokens()
    with closing(
        _in_order([*jobs["train"], *jobs["validation"]], Tools(chosen.encoder, reference), workspace)
    ) as parts:
        for split in SPLITS:
            counted = _join(split, jobs[split], parts, scene)
            counts |= _check(split, counted, scene)
            total += counted
    return Summary(
        counts=counts | {"num_documents_verified": total.num_sampled + total.num_unusual},
        proofs=_proofs(chosen, total, scene),
    )


def _proofs(chosen: Chosen, total: PartTokens, scene: _Scene) -> dict[str, object]:
    reference = scene.reference
    return {
        "encoder": f"{chosen.encoder.name} {metadata.version(chosen.encoder.name)}",
        "encoder_reason": chosen.reason,
        "reference_tokenizer": f"tokenizers {metadata.version('tokenizers')}",
        "verified_as_sample": total.num_sampled,
        "verified_as_unusual": total.num_unusual,
        "eod_token_id": reference.eod_token_id,
        "eod_token": reference.eod_token,
        "vocabulary_size": reference.vocabulary_size,
        "dtype": scene.dtype.name,
        "documents_in_equal_documents_in_idx": True,
        "tokens_in_bin_equal_tokens_counted": True,
        "tokens_of_each_document_equal_lengths_in_idx": True,
        "control_tokens_only_at_document_ends": not scene.config.allow_control_tokens,
    }


def _jobs(split: str, scene: _Scene, tokenizer: Part, encoder: str) -> list[EncodeJob]:
    """The jobs of a split, in the order of its documents."""
    config, scratch = scene.config, scene.workspace.scratch
    return [
        EncodeJob(
            shard=shard,
            row_groups=groups,
            first_row=first_row,
            num_shard_rows=pq.read_metadata(shard).num_rows,
            num_bytes=num_bytes,
            stem=scratch / f"{shard.stem}-{groups[0]:06d}-{groups[-1]:06d}",
            tokenizer=tokenizer.path,
            encoder=encoder,
            append_eod=config.append_eod,
            allow_control_tokens=config.allow_control_tokens,
        )
        for shard in scene.corpus.shards(split)
        for groups, first_row, num_bytes in cut(shard)
    ]


def _in_order(jobs: list[EncodeJob], tools: Tools, workspace: Workspace) -> Generator[PartTokens, None, None]:
    """The counts of each job in the order of the jobs, as soon as all before it have ended."""
    ended: dict[EncodeJob, PartTokens] = {}
    num_documents = num_tokens = 0
    in_all = sum({job.shard: job.num_shard_rows for job in jobs}.values())
    results = encode_all(jobs, tools, workspace.runtime)
    with closing(results):
        for awaited in jobs:
            while awaited not in ended:
                job, ended[job] = next(results)
                num_documents += ended[job].num_documents
                num_tokens += ended[job].num_tokens
                workspace.progress(num_documents, in_all, unit="documents", tokens=num_tokens)
            yield ended.pop(awaited)


def _join(split: str, jobs: list[EncodeJob], parts: Iterator[PartTokens], scene: _Scene) -> PartTokens:
    """Puts the parts of a split one behind the other while later ones are still encoded; bytes, never decoded."""
    workspace, stem = scene.workspace, scene.stem(split)
    lengths: list[np.ndarray] = [np.zeros(0, np.int64)]
    total = PartTokens()
    with workspace.open(f"{stem}.bin") as joined, workspace.parquet(f"{split}_tokens.parquet", TOKENS) as rows:
        for _, of_shard in groupby(jobs, key=lambda job: job.shard):
            tables = []
            for job in of_shard:
                total += next(parts)
                _append(joined, job)
                tables.append(pa.ipc.open_file(str(job.stem.with_suffix(".arrow"))).read_all())
            table = pa.concat_tables(tables).combine_chunks()
            rows.write_table(table, row_group_size=ROWS_PER_GROUP)
            lengths.append(table["num_tokens"].to_numpy())
    with workspace.open(f"{stem}.idx") as index:
        write_index(index, np.concatenate(lengths), scene.dtype)
    return total


def _append(joined: HashingFile, job: EncodeJob) -> None:
    buffer = memoryview(bytearray(COPY_BYTES))
    with open(job.stem.with_suffix(".bin"), "rb", buffering=0) as part:
        while size := part.readinto(buffer):
            joined.write(buffer[:size])


def _check(split: str, counted: PartTokens, scene: _Scene) -> dict[str, int]:
    """Reads what was written back and compares it with the corpus and the counts. Raises ReconciliationError."""
    folder, reference = scene.workspace.path, scene.reference
    written = TokenFile(folder / scene.stem(split))
    per_document = pq.read_table(folder / f"{split}_tokens.parquet", columns=["num_tokens"])["num_tokens"].to_numpy()
    num_documents = sum(pq.read_metadata(shard).num_rows for shard in scene.corpus.shards(split))
    ends = written.tokens[written.starts + written.lengths - 1] if len(written) else np.zeros(0)
    fits = [
        len(written) == num_documents == counted.num_documents,
        written.num_tokens == counted.num_tokens == per_document.sum(),
        np.array_equal(per_document, written.lengths),
        not scene.config.append_eod or bool(np.all(ends == reference.eod_token_id)),
        written.num_tokens == 0 or int(written.tokens.max()) < reference.vocabulary_size,
    ]
    if not all(fits):
        raise ReconciliationError(
            f"binarize: {split}: {len(written)} documents and {written.num_tokens} tokens in the .idx, expected "
            f"{num_documents} and {counted.num_tokens}, each document as long as counted, with its end token and "
            "within the vocabulary",
            hint="this is a fault of tsuzuki; delete the store's .partial folder, run again, and report it",
        )
    return {
        f"num_documents_{split}": num_documents,
        f"num_tokens_{split}": counted.num_tokens,
        f"num_characters_{split}": counted.num_characters,
    }
