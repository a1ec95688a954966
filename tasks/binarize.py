"""Stage `binarize`: documents become Megatron token files, each document's tokens counted and proved."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.artifacts import Corpus, Part
from data_contracts.errors import DataError, ModelError, ReconciliationError
from data_contracts.files import HashingFile, write_whole
from data_contracts.manifest import Summary
from data_contracts.rows import ROWS_PER_GROUP, TOKENS
from data_contracts.token_files import TokenFile, token_dtype, write_index
from tasks.parallel import map_jobs
from tasks.workspace import Workspace

SPLITS = ("train", "validation")
VERIFIED_PER_SHARD = 64
"""Documents of each shard whose ids are compared with a fresh, one-by-one encoding after they were written."""


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


class ShardTokens(BaseModel):
    """What one shard gave: files in the scratch, and counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_documents: int
    num_tokens: int
    num_characters: int
    num_verified: int


class Encoder(NamedTuple):
    """A tokenizer and what its ids look like."""

    tokenizer: Any
    vocabulary_size: int
    eod_token_id: int
    eod_token: str


def binarize(config: BinarizeConfig, workspace: Workspace, corpus: Corpus, tokenizer: Part) -> Summary:
    """Writes `<prefix>{train,validation}_text_document.{bin,idx}` and `<split>_tokens.parquet`, then reads them back.

    Raises ModelError for a tokenizer without end-of-text token, DataError for ids that differ from a one-by-one
    encoding, ReconciliationError when documents or tokens written differ from those counted.
    """
    encoder = load_encoder(tokenizer.path, config.allow_control_tokens)
    items = [(split, shard) for split in SPLITS for shard in corpus.shards(split)]
    results = _encode_all(items, config, tokenizer.path, workspace)
    counts: dict[str, int] = {}
    for split in SPLITS:
        numbered = [(n, r) for n, r in enumerate(results) if items[n][0] == split]
        _join(split, numbered, config, encoder, workspace)
        counts |= _check(split, numbered, config, encoder, corpus, workspace)
    return Summary(
        counts=counts | {"num_documents_verified": sum(r.num_verified for r in results)},
        proofs={
            "tokenizer": "tokenizers.Tokenizer.encode_batch_fast",
            "eod_token_id": encoder.eod_token_id,
            "eod_token": encoder.eod_token,
            "vocabulary_size": encoder.vocabulary_size,
            "dtype": token_dtype(encoder.vocabulary_size).name,
            "documents_in_equal_documents_in_idx": True,
            "tokens_in_bin_equal_tokens_counted": True,
            "control_tokens_only_at_document_ends": not config.allow_control_tokens,
        },
    )


def load_encoder(folder: Path, allow_control_tokens: bool) -> Encoder:
    """The fast tokenizer of a model folder, set so that text cannot become control tokens unless that is allowed.

    Raises ModelError if it has no `tokenizer.json`, or no end-of-text token.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            f"`{folder}`: no tokenizer.json, expected a fast tokenizer",
            hint="save it once with `AutoTokenizer.from_pretrained(...).save_pretrained(...)`",
        )
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = not allow_control_tokens
    eod = _eod_token(folder)
    eod_id = tokenizer.token_to_id(eod) if eod else None
    if eod is None or eod_id is None:
        raise ModelError(
            f"`{folder}`: the tokenizer names {eod!r} as end-of-text token, expected one of its vocabulary",
            hint="set `eos_token` in its tokenizer_config.json",
        )
    return Encoder(tokenizer, tokenizer.get_vocab_size(with_added_tokens=True), eod_id, eod)


def _eod_token(folder: Path) -> str | None:
    """`<|endoftext|>` where the vocabulary has it (Qwen's chat models name another `eos_token`), else `eos_token`."""
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    added = {t["content"] for t in settings.get("added_tokens_decoder", {}).values()}
    added |= {t["content"] for t in json.loads((folder / "tokenizer.json").read_text("utf-8")).get("added_tokens", [])}
    if "<|endoftext|>" in added:
        return "<|endoftext|>"
    eos = settings.get("eos_token")
    return eos["content"] if isinstance(eos, dict) else eos


def _encode_all(
    items: list[tuple[str, Path]], config: BinarizeConfig, tokenizer: Path, workspace: Workspace
) -> list[ShardTokens]:
    """One result a shard, in order; shards that an earlier attempt finished are not encoded again."""
    results: dict[int, ShardTokens] = {}
    for number in range(len(items)):
        if (done := _done_path(workspace.scratch, number)).is_file():
            results[number] = ShardTokens.model_validate_json(done.read_text(encoding="utf-8"))
    jobs = [
        _ShardJob(number, shard, config, tokenizer, workspace.scratch)
        for number, (_, shard) in enumerate(items)
        if number not in results
    ]
    num_bytes = sum(job.shard.stat().st_size for job in jobs)
    for job, result in map_jobs(_encode_shard, jobs, runtime=workspace.runtime, num_bytes=num_bytes):
        results[job.number] = result
        tokens = sum(r.num_tokens for r in results.values())
        workspace.progress(len(results), len(items), unit="shards", tokens=tokens)
    return [results[number] for number in range(len(items))]


def _done_path(scratch: Path, number: int) -> Path:
    return scratch / f"shard-{number:05d}.json"


class _ShardJob(NamedTuple):
    number: int
    shard: Path
    config: BinarizeConfig
    tokenizer: Path
    scratch: Path


def _encode_shard(job: _ShardJob) -> ShardTokens:
    """Writes `shard-NNNNN.bin` (tokens) and `shard-NNNNN.parquet` (TOKENS rows) of one shard into the scratch."""
    number, shard, config, tokenizer, scratch = job
    encoder = load_encoder(tokenizer, config.allow_control_tokens)
    stem = scratch / f"shard-{number:05d}"
    totals = {"num_documents": 0, "num_tokens": 0, "num_characters": 0, "num_verified": 0}
    with (
        pq.ParquetFile(shard) as documents,
        open(stem.with_suffix(".bin"), "wb") as tokens,
        pq.ParquetWriter(stem.with_suffix(".parquet"), TOKENS) as rows,
    ):
        for batch in documents.iter_batches(ROWS_PER_GROUP, columns=["id", "text"]):
            texts = batch.column("text").to_pylist()
            ids = _encode(encoder, texts, config)
            totals["num_verified"] += _verify(encoder, texts, ids, config, batch.column("id"), shard)
            flat = np.concatenate(ids) if ids else np.zeros(0, token_dtype(encoder.vocabulary_size))
            tokens.write(flat.tobytes())
            characters, lengths = [len(t) for t in texts], [len(i) for i in ids]
            rows.write_batch(pa.record_batch([batch.column("id"), characters, lengths], schema=TOKENS))
            totals["num_documents"] += len(texts)
            totals["num_tokens"] += len(flat)
            totals["num_characters"] += sum(characters)
    result = ShardTokens(**totals)
    write_whole(_done_path(scratch, number), result.model_dump_json())
    return result


def _encode(encoder: Encoder, texts: list[str], config: BinarizeConfig) -> list[np.ndarray]:
    """One array of token ids a text, (its tokens,), with the end-of-document token if that is asked for."""
    end = [encoder.eod_token_id] if config.append_eod else []
    dtype = token_dtype(encoder.vocabulary_size)
    encodings = encoder.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [np.array(e.ids + end, dtype=dtype) for e in encodings]


def _verify(
    encoder: Encoder, texts: list[str], ids: list[np.ndarray], config: BinarizeConfig, names: pa.Array, shard: Path
) -> int:
    """How many documents were encoded again one by one: the first of a shard and every one that is not in NFC.

    Raises DataError, with the document's id, for the first whose token ids differ or hold a control token inside.
    """
    checked = 0
    control = _control_ids(encoder)
    for row, text in enumerate(texts):
        body = ids[row][: len(ids[row]) - config.append_eod]
        stray = not config.allow_control_tokens and np.isin(body, control).any()
        if row < VERIFIED_PER_SHARD or not unicodedata.is_normalized("NFC", text):
            checked += 1
            reference = encoder.tokenizer.encode(text, add_special_tokens=False).ids
            stray = stray or body.tolist() != reference
        if stray:
            raise DataError(
                f"`{shard.name}`: document {names[row].as_py()}: its token ids are not those of its text",
                hint="the tokenizer is not deterministic or maps text to control tokens; use another one",
            )
    return checked


def _control_ids(encoder: Encoder) -> np.ndarray:
    added = encoder.tokenizer.get_added_tokens_decoder()
    return np.array([number for number, token in added.items() if token.special], dtype=np.int64)


def _stem(config: BinarizeConfig, split: str) -> str:
    return f"{config.prefix}{split}_text_document"


def _join(
    split: str, numbered: list[tuple[int, ShardTokens]], config: BinarizeConfig, encoder: Encoder, workspace: Workspace
) -> None:
    """Puts the shards of a split one behind the other; tokens are copied as bytes, never decoded."""
    stem = _stem(config, split)
    lengths: list[np.ndarray] = [np.zeros(0, np.int64)]
    with workspace.open(f"{stem}.bin") as joined, workspace.parquet(f"{split}_tokens.parquet", TOKENS) as rows:
        for number, _ in numbered:
            part = workspace.scratch / f"shard-{number:05d}.bin"
            _append(joined, part)
            table = pq.read_table(part.with_suffix(".parquet"))
            rows.write_table(table.cast(TOKENS), row_group_size=ROWS_PER_GROUP)
            lengths.append(table["num_tokens"].to_numpy())
    with workspace.open(f"{stem}.idx") as index:
        write_index(index, np.concatenate(lengths), token_dtype(encoder.vocabulary_size))


def _append(joined: HashingFile, part: Path) -> None:
    with open(part, "rb") as file:
        while chunk := file.read(8 << 20):
            joined.write(chunk)


def _check(
    split: str,
    numbered: list[tuple[int, ShardTokens]],
    config: BinarizeConfig,
    encoder: Encoder,
    corpus: Corpus,
    workspace: Workspace,
) -> dict[str, int]:
    """Reads the written pair back and compares it with the corpus and the counts. Raises ReconciliationError."""
    written = TokenFile(workspace.path / _stem(config, split))
    num_documents = sum(pq.read_metadata(shard).num_rows for shard in corpus.shards(split))
    num_tokens = sum(r.num_tokens for _, r in numbered)
    ends = written.tokens[written.starts + written.lengths - 1] if len(written) else np.zeros(0)
    fits = [
        len(written) == num_documents == sum(r.num_documents for _, r in numbered),
        written.num_tokens == num_tokens,
        not config.append_eod or bool(np.all(ends == encoder.eod_token_id)),
        written.num_tokens == 0 or int(written.tokens.max()) < encoder.vocabulary_size,
    ]
    if not all(fits):
        raise ReconciliationError(
            f"binarize: {split}: {len(written)} documents and {written.num_tokens} tokens in the .idx, "
            f"expected {num_documents} and {num_tokens}, each document with its end token and within the vocabulary",
            hint="this is a fault of tsuzuki; delete the store's .partial folder, run again, and report it",
        )
    characters = sum(r.num_characters for _, r in numbered)
    return {
        f"num_documents_{split}": num_documents,
        f"num_tokens_{split}": num_tokens,
        f"num_characters_{split}": characters,
    }
