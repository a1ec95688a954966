"""Binarize: documents in equal documents in the .idx, ids equal the reference's, control tokens stay text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from data_contracts.artifacts import Corpus, HfModel, TokenDataset
from data_contracts.errors import ModelError
from data_contracts.manifest import Summary
from data_contracts.rows import DOCUMENTS
from data_contracts.token_files import TokenFile
from tasks import parallel
from tasks.binarize import BinarizeConfig, load_encoder
from tasks.runtime import Runtime
from tasks.stage import Request, Stage
from tasks.stages import BINARIZE
from tasks.store import Store

TEXTS = [
    "日本の首都は東京である。",
    "終わり<|endoftext|>ではない<|im_start|>",
    "か\u3099とが",
    "👩‍👩‍👧 emoji",
    "ab " * 5000,
]


def make_corpus(config, workspace) -> Summary:
    for split, texts in config.splits.items():
        for number, half in enumerate((texts[::2], texts[1::2])):
            empty = {"source": "", "url": "", "title": "", "meta": "{}"}
            rows = [{"id": f"{split}{number}{n}", "text": text, **empty} for n, text in enumerate(half)]
            with workspace.parquet(f"documents/{split}-{number:05d}.parquet", DOCUMENTS) as writer:
                writer.write_table(pa.Table.from_pylist(rows, DOCUMENTS))
    workspace.write_bytes("ledger.parquet", b"")
    return Summary()


def make_model(config, workspace) -> Summary:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    if config.eos:
        tokenizer.add_special_tokens([AddedToken("<|endoftext|>"), AddedToken("<|im_start|>")])
    workspace.write_bytes("tokenizer.json", tokenizer.to_str().encode())
    settings = {"eos_token": "<|endoftext|>" if config.eos else None}
    workspace.write_bytes("tokenizer_config.json", json.dumps(settings).encode())
    return Summary()


def build(store: Path, stage: Stage, config, workers: int = 1, **inputs):
    path = Store(store).build(Request.of(stage, config, inputs), Runtime(store=store, workers=workers)).path
    return stage.output.open(path)


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    from pydantic import BaseModel

    class CorpusConfig(BaseModel):
        splits: dict[str, list[str]]

    class TokenizerConfig(BaseModel):
        eos: bool = True

    monkeypatch.setattr(Stage, "function", lambda self: bodies.get(self.name) or original(self))
    corpus = build(
        tmp_path, Stage("split", Corpus, 1, "", ""), CorpusConfig(splits={"train": TEXTS, "validation": TEXTS[:2]})
    )
    model = build(tmp_path, Stage("base_model", HfModel, 1, "", ""), TokenizerConfig())
    return tmp_path, corpus, model


original = Stage.function
bodies = {"split": make_corpus, "base_model": make_model}


def binarize(inputs, config: BinarizeConfig | None = None, workers: int = 1) -> TokenDataset:
    store, corpus, model = inputs
    return build(store, BINARIZE, config or BinarizeConfig(), workers, corpus=corpus, tokenizer=model.tokenizer)


def texts_of(corpus: Corpus, split: str) -> list[str]:
    return [t for shard in corpus.shards(split) for t in pq.read_table(shard)["text"].to_pylist()]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_document_decodes_to_its_text_and_ends_with_eod(inputs, monkeypatch, workers):
    monkeypatch.setattr(parallel, "INLINE_BYTES", 0)
    dataset = binarize(inputs, workers=workers)
    encoder = load_encoder(inputs[2].path, False)
    for split in ("train", "validation"):
        tokens = TokenFile(dataset.prefix(split))
        for ids, text in zip(tokens, texts_of(inputs[1], split), strict=True):
            assert ids[-1] == encoder.eod_token_id
            assert encoder.tokenizer.decode(ids[:-1].tolist(), skip_special_tokens=False) == text
            assert encoder.tokenizer.encode(text, add_special_tokens=False).ids == ids[:-1].tolist()


def test_text_that_spells_a_control_token_does_not_become_one_unless_allowed(inputs):
    control = load_encoder(inputs[2].path, False).eod_token_id
    kept = TokenFile(binarize(inputs).prefix("train"))
    assert all(np.count_nonzero(ids == control) == 1 for ids in kept)
    allowed = TokenFile(binarize(inputs, BinarizeConfig(allow_control_tokens=True)).prefix("train"))
    assert max(np.count_nonzero(ids == control) for ids in allowed) == 2


def test_counts_reconcile_with_the_files_and_per_document_tokens(inputs):
    dataset = binarize(inputs, BinarizeConfig(prefix="ja_wiki_"))
    counts = dataset.manifest.summary.counts
    tokens = TokenFile(dataset.path / "ja_wiki_train_text_document")
    rows = pq.read_table(dataset.path / "train_tokens.parquet")
    assert counts["num_documents_train"] == len(tokens) == len(TEXTS)
    assert counts["num_tokens_train"] == tokens.num_tokens == sum(rows["num_tokens"].to_pylist())
    assert counts["num_characters_train"] == sum(map(len, TEXTS))
    assert dataset.prefix("validation").name == "ja_wiki_validation_text_document"


def test_result_does_not_depend_on_the_number_of_workers(inputs, monkeypatch):
    monkeypatch.setattr(parallel, "INLINE_BYTES", 0)
    first = binarize(inputs)
    Store(inputs[0]).discard(first.path)
    assert binarize(inputs, workers=2).digest == first.digest


def test_a_model_whose_weights_change_but_not_its_tokenizer_keeps_the_tokens(inputs):
    _, corpus, model = inputs
    key = Request.of(BINARIZE, BinarizeConfig(), {"corpus": corpus, "tokenizer": model.tokenizer}).key
    (model.path / "model.safetensors").write_bytes(b"other weights")
    assert Request.of(BINARIZE, BinarizeConfig(), {"corpus": corpus, "tokenizer": model.tokenizer}).key == key


def test_a_folder_without_tokenizer_or_end_token_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no tokenizer"):
        load_encoder(tmp_path, False)
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="end-of-text"):
        load_encoder(tmp_path, False)
