"""The `huggingface` source on folders that `datasets` reads, without a network."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.artifacts import RawCorpus
from data_contracts.errors import SourceError, TransientSourceError
from tasks.acquire.config import HuggingFaceSource
from tasks.runtime import Runtime
from tasks.stage import Request
from tasks.stages import ACQUIRE
from tasks.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")

CONFIGS = """---
configs:
- config_name: news
  data_files:
  - {split: train, path: news/train.parquet}
  - {split: validation, path: news/validation.parquet}
- config_name: novels
  data_files:
  - {split: test, path: novels/test.parquet}
---
"""


def acquire(store: Path, dataset: str | Path, **source) -> RawCorpus:
    config = HuggingFaceSource(dataset=str(dataset), **source)
    return RawCorpus.open(Store(store).build(Request.of(ACQUIRE, config, {}), Runtime(store=store)).path)


def rows(corpus: RawCorpus) -> list[dict]:
    return [row for shard in corpus.shards() for row in pq.read_table(shard).to_pylist()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "books"
    for name, text in {"news/train": "雨", "news/validation": "雪", "novels/test": "吾輩は猫である"}.items():
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"id": [1, 2], "text": [text, None], "when": [{"year": 1905}] * 2}), path)
    (folder / "README.md").write_text(CONFIGS, encoding="utf-8")
    return folder


def test_json_lines_without_configuration_are_read_with_their_licence(tmp_path):
    (tmp_path / "news").mkdir()
    lines = '{"id": "a", "text": "雨", "topic": "x"}\n{"id": "b", "text": "雪"}\n'
    (tmp_path / "news" / "train.jsonl").write_text(lines, encoding="utf-8")
    corpus = acquire(tmp_path / "s", tmp_path / "news", licence="CC-BY-2.5")
    assert [(row["id"], row["text"]) for row in rows(corpus)] == [("a", "雨"), ("b", "雪")]
    assert corpus.manifest.sources[0].licence == "CC-BY-2.5"


def test_configuration_split_and_revision_are_read_and_recorded(tmp_path, folder):
    source = {"config_name": "news", "dataset_split": "validation", "revision": "v1.0", "max_quarantined_share": 0.5}
    corpus = acquire(tmp_path / "s", folder, **source)
    (row,) = rows(corpus)
    assert (row["id"], row["text"], row["meta"]) == ("1", "雪", '{"when":{"year":1905}}')
    assert row["source"] == "books/news/validation:1"
    assert [shard.name.split("-")[0] for shard in corpus.shards()] == ["validation"]
    assert corpus.manifest.sources[0].revision == "v1.0"
    assert corpus.manifest.summary.counts["num_quarantined"] == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"config_name": "poems"}, "found no configuration 'poems', expected one of news, novels"),
        ({}, "found no configuration None, expected one of news, novels"),
        ({"config_name": "novels"}, "found no split 'train', expected one of test"),
    ],
)
def test_an_unknown_configuration_or_split_is_told_with_the_valid_ones(tmp_path, folder, source, message):
    with pytest.raises(SourceError, match=rf"books`: {re.escape(message)}\nhint: set `source\."):
        acquire(tmp_path / "s", folder, **source)


def test_rows_that_datasets_cannot_read_are_a_source_error(tmp_path, folder):
    path = folder / "news" / "train.parquet"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SourceError, match="books`: "):
        acquire(tmp_path / "s", folder, config_name="news")


def test_a_missing_folder_and_a_hub_out_of_reach_are_told_apart(tmp_path):
    with pytest.raises(SourceError, match=r"at-all`: .*expected a data set"):
        acquire(tmp_path / "s", tmp_path / "not" / "here" / "at-all")
    with pytest.raises(TransientSourceError, match=r"org/corpus`: .*\nhint: .*HF_HUB_OFFLINE"):
        acquire(tmp_path / "s", "org/corpus")
