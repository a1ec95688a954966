"""Binarize: documents in equal documents in the .idx, ids equal the reference's, control tokens stay text."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from data_contracts.artifacts import Corpus, HfModel, TokenDataset
from data_contracts.errors import DataError, ModelError
from data_contracts.manifest import Summary
from data_contracts.rows import DOCUMENTS
from data_contracts.token_files import TokenFile
from tasks import parallel
from tasks.binarize import BinarizeConfig
from tasks.binarize import binarize as binarize_body
from tasks.binarizing import jobs
from tasks.binarizing.encoders import load_reference
from tasks.runtime import Runtime
from tasks.stage import Request, Stage
from tasks.stages import BINARIZE
from tasks.store import Store
from tasks.workspace import Workspace

TEXTS = [
    "日本の首都は東京である。",
    "終わり<|endoftext|>ではない<|im_start|>",
    "か\u3099とが ﾊﾟｰﾄ パート",
    "👩‍👩‍👧 emoji 𠮷",
    "ab " * 5000,
    "　　全角の字下げ\n\n",
    "",
]
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class CorpusConfig(BaseModel):
    splits: dict[str, list[str]]


class TokenizerConfig(BaseModel):
    eos: bool = True
    model: str = "bpe"


def make_corpus(config, workspace) -> Summary:
    """Two shards a split, in row groups of two documents."""
    for split, texts in config.splits.items():
        for number, half in enumerate((texts[::2], texts[1::2])):
            empty = {"source": "", "url": "", "title": "", "meta": "{}"}
            rows = [{"id": f"{split}{number}{n}", "text": text, **empty} for n, text in enumerate(half)]
            with workspace.parquet(f"documents/{split}-{number:05d}.parquet", DOCUMENTS) as writer:
                writer.write_table(pa.Table.from_pylist(rows, DOCUMENTS), row_group_size=2)
    workspace.write_bytes("ledger.parquet", b"")
    return Summary()


def train_bpe(dropout: float | None = None) -> Tokenizer:
    """What Qwen's tokenizer does, with a vocabulary of a few hundred."""
    tokenizer = Tokenizer(models.BPE(dropout=dropout))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    return tokenizer


def train_unigram() -> Tokenizer:
    """What LLM-JP's tokenizer is made of."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, unk_token="<unk>", special_tokens=["<unk>"], initial_alphabet=list(set("".join(TEXTS)))
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def make_model(config, workspace) -> Summary:
    makers = {"bpe": train_bpe, "unigram": train_unigram, "dropout": lambda: train_bpe(dropout=0.5)}
    tokenizer = makers[config.model]()
    if config.eos:
        tokenizer.add_special_tokens([AddedToken("<|endoftext|>"), AddedToken("<|im_start|>")])
    workspace.write_bytes("tokenizer.json", tokenizer.to_str().encode())
    settings = {"eos_token": "<|endoftext|>" if config.eos else None}
    workspace.write_bytes("tokenizer_config.json", json.dumps(settings).encode())
    return Summary()


original = Stage.function
bodies = {"split": make_corpus, "base_model": make_model}


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(Stage, "function", lambda self: bodies.get(self.name) or original(self))
    return tmp_path


def build(store: Path, stage: Stage, config: BaseModel, runtime: dict | None = None, **inputs):
    request = Request.of(stage, config, inputs)
    return stage.output.open(Store(store).build(request, Runtime(store=store, **(runtime or {}))).path)


def corpus_of(store: Path, train: list[str] = TEXTS, validation: list[str] = TEXTS[:2]) -> Corpus:
    config = CorpusConfig(splits={"train": train, "validation": validation})
    return build(store, Stage("split", Corpus, 1, "", ""), config)


def model_of(store: Path, **config) -> HfModel:
    return build(store, Stage("base_model", HfModel, 1, "", ""), TokenizerConfig(**config))


@pytest.fixture
def inputs(store) -> tuple[Path, Corpus, HfModel]:
    return store, corpus_of(store), model_of(store)


def binarize(inputs, config: BinarizeConfig | None = None, **runtime) -> TokenDataset:
    store, corpus, model = inputs
    return build(store, BINARIZE, config or BinarizeConfig(), runtime, corpus=corpus, tokenizer=model.tokenizer)


def texts_of(corpus: Corpus, split: str) -> list[str]:
    return [t for shard in corpus.shards(split) for t in pq.read_table(shard)["text"].to_pylist()]


ENGINES = {
    "one thread": {"workers": 1},
    "three threads": {"workers": 3},
    "two processes": {"workers": 2},
    "dask": {"workers": 2, "engine": "dask"},
}


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch) -> dict[str, object]:
    """Where jobs run, one document or two each, even though there is little to do."""
    monkeypatch.setattr(jobs, "JOB_BYTES", 1)
    monkeypatch.setattr(parallel, "INLINE_BYTES", 0)
    if request.param == "two processes":
        monkeypatch.setattr(jobs, "THREADS_PER_PROCESS", 1)
    return ENGINES[request.param]


@pytest.mark.parametrize("encoder", ["fastokens", "tokenizers"])
def test_every_document_has_the_ids_of_the_reference_and_ends_with_eod(inputs, encoder):
    dataset = binarize(inputs, BinarizeConfig(encoder=encoder))
    reference = load_reference(inputs[2].path, False)
    for split in ("train", "validation"):
        tokens = TokenFile(dataset.prefix(split))
        for ids, text in zip(tokens, texts_of(inputs[1], split), strict=True):
            assert ids[-1] == reference.eod_token_id
            assert reference.ids(text).tolist() == ids[:-1].tolist()
            decoded = reference.tokenizer.decode(ids[:-1].tolist(), skip_special_tokens=False)
            assert decoded == text.replace("か\u3099", "が")
    assert dataset.manifest.summary.proofs["encoder"].startswith(f"{encoder} ")


def test_every_engine_and_any_cut_into_jobs_gives_the_same_bytes(inputs, engine, tmp_path):
    digest = binarize(inputs, **engine).digest
    with pytest.MonkeyPatch.context() as uncut:
        uncut.setattr(jobs, "JOB_BYTES", 1 << 30)
        uncut.setattr(parallel, "INLINE_BYTES", 1 << 30)
        Store(inputs[0]).discard(next((inputs[0] / "binarize").iterdir()))
        assert binarize(inputs).digest == digest


def test_the_encoder_is_not_part_of_the_identity(inputs):
    _, corpus, model = inputs
    keys = {
        Request.of(BINARIZE, BinarizeConfig(encoder=e), {"corpus": corpus, "tokenizer": model.tokenizer}).key
        for e in ("auto", "fastokens", "tokenizers")
    }
    assert len(keys) == 1


@pytest.mark.parametrize("encoder", ["fastokens", "tokenizers"])
def test_text_that_spells_a_control_token_does_not_become_one_unless_allowed(inputs, encoder):
    control = load_reference(inputs[2].path, False).eod_token_id
    kept = TokenFile(binarize(inputs, BinarizeConfig(encoder=encoder)).prefix("train"))
    assert all(np.count_nonzero(ids == control) == 1 for ids in kept)
    config = BinarizeConfig(encoder=encoder, allow_control_tokens=True)
    allowed = TokenFile(binarize(inputs, config).prefix("train"))
    assert max(np.count_nonzero(ids == control) for ids in allowed) == 2


def test_counts_reconcile_with_the_files_and_per_document_tokens(inputs):
    dataset = binarize(inputs, BinarizeConfig(prefix="ja_wiki_"))
    counts = dataset.manifest.summary.counts
    tokens = TokenFile(dataset.path / "ja_wiki_train_text_document")
    rows = pq.read_table(dataset.path / "train_tokens.parquet")
    assert counts["num_documents_train"] == len(tokens) == len(TEXTS)
    assert counts["num_tokens_train"] == tokens.num_tokens == sum(rows["num_tokens"].to_pylist())
    assert counts["num_characters_train"] == sum(map(len, TEXTS))
    assert rows["num_tokens"].to_pylist() == tokens.lengths.tolist()
    assert rows["num_characters"].to_pylist() == [len(t) for t in texts_of(inputs[1], "train")]
    assert dataset.prefix("validation").name == "ja_wiki_validation_text_document"


def test_an_empty_document_is_its_end_token_and_refused_where_it_would_be_nothing(inputs):
    assert 1 in TokenFile(binarize(inputs).prefix("train")).lengths
    with pytest.raises(DataError, match=r"train-00000.parquet`: document train03: it gives no token"):
        binarize(inputs, BinarizeConfig(append_eod=False))


def test_without_end_tokens_the_file_holds_the_texts_alone(store):
    texts = [text for text in TEXTS if text]
    inputs = store, corpus_of(store, texts), model_of(store)
    tokens = TokenFile(binarize(inputs, BinarizeConfig(append_eod=False)).prefix("train"))
    reference = load_reference(inputs[2].path, False)
    assert [t.tolist() for t in tokens] == [reference.ids(t).tolist() for t in texts_of(inputs[1], "train")]


def test_a_corpus_without_validation_documents_gives_an_empty_pair(store):
    dataset = binarize((store, corpus_of(store, validation=[]), model_of(store)))
    assert len(TokenFile(dataset.prefix("validation"))) == 0
    assert dataset.manifest.summary.counts["num_documents_validation"] == 0


def test_a_tokenizer_that_fastokens_does_not_know_is_encoded_by_tokenizers_with_a_warning(store, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = binarize((store, corpus_of(store), model_of(store, model="unigram")))
    proofs = dataset.manifest.summary.proofs
    assert proofs["encoder"].startswith("tokenizers ")
    assert "unsupported" in proofs["encoder_reason"]
    assert proofs["encoder_reason"] in caplog.text
    assert len(TokenFile(dataset.prefix("train"))) == len(TEXTS)


def test_fastokens_asked_for_by_name_is_never_replaced(store):
    inputs = store, corpus_of(store), model_of(store, model="unigram")
    with pytest.raises(ModelError, match="fastokens cannot encode for this tokenizer"):
        binarize(inputs, BinarizeConfig(encoder="fastokens"))


def test_a_tokenizer_that_gives_other_ids_each_time_fails_the_stage(store, caplog):
    inputs = store, corpus_of(store), model_of(store, model="dropout")
    with pytest.raises(DataError, match=r"train-0000\d.parquet`: document train\d+: its token ids are not"):
        binarize(inputs)
    assert "differ from the reference's" in caplog.text


def test_jobs_that_an_earlier_attempt_finished_are_not_done_again(inputs, monkeypatch):
    monkeypatch.setattr(jobs, "JOB_BYTES", 1)
    store, corpus, model = inputs
    workspace = Workspace(store / "half", Runtime(store=store))
    shard = corpus.shards("validation")[-1]
    shard.rename(shard.with_suffix(".hidden"))
    binarize_body(BinarizeConfig(), workspace, corpus, model.tokenizer)
    done = {path: path.stat().st_mtime_ns for path in workspace.scratch.glob("*.bin")}
    assert len(done) > len(corpus.shards())

    shard.with_suffix(".hidden").rename(shard)
    again = Workspace(store / "half", Runtime(store=store), resumed=True)
    binarize_body(BinarizeConfig(), again, corpus, model.tokenizer)
    assert {path: path.stat().st_mtime_ns for path in workspace.scratch.glob("*.bin") if path in done} == done
    files = {entry.name: entry.sha256 for entry in again.files()}
    assert files == {entry.name: entry.sha256 for entry in binarize(inputs).manifest.files}


def test_a_model_whose_weights_change_but_not_its_tokenizer_keeps_the_tokens(inputs):
    _, corpus, model = inputs
    key = Request.of(BINARIZE, BinarizeConfig(), {"corpus": corpus, "tokenizer": model.tokenizer}).key
    (model.path / "model.safetensors").write_bytes(b"other weights")
    assert Request.of(BINARIZE, BinarizeConfig(), {"corpus": corpus, "tokenizer": model.tokenizer}).key == key


def test_a_folder_without_tokenizer_or_end_token_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no tokenizer"):
        load_reference(tmp_path, False)
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="end-of-text"):
        load_reference(tmp_path, False)
