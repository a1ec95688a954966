"""Acquire: every line becomes a document or goes to quarantine, the draw is unbiased, ids are told apart."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from data_contracts.artifacts import RawCorpus
from data_contracts.errors import QuarantineLimitError, SourceError
from tasks import parallel
from tasks.acquire.config import SourceConfig
from tasks.runtime import Runtime
from tasks.stage import Request
from tasks.stages import ACQUIRE
from tasks.store import Store

HARD_TEXTS = ["", "ﾊﾝｶｸ　全角", "か\u3099", "👩‍👩‍👧", "あ" * 5_000_000, "改\n行\r\n\u2028", '{"text": "入れ子"}']


def record(text: str, number: int, **more) -> bytes:
    meta = {"id": f"d{number}", "title": f"題{number}", "url": f"u{number}", **more}
    return json.dumps({"text": text, "meta": meta}, ensure_ascii=False).encode()


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def acquire(store: Path, workers: int = 1, **source) -> RawCorpus:
    config = TypeAdapter(SourceConfig).validate_python({"kind": "local", **source})
    request = Request.of(ACQUIRE, config, {})
    return RawCorpus.open(Store(store).build(request, Runtime(store=store, workers=workers)).path)


def rows(corpus: RawCorpus) -> list[dict]:
    return [row for shard in corpus.shards() for row in pq.read_table(shard).to_pylist()]


def test_hard_texts_come_through_unchanged(tmp_path):
    path = tmp_path / "train_0.jsonl"
    path.write_bytes(b"\n".join(record(text, n) for n, text in enumerate(HARD_TEXTS)))
    corpus = acquire(tmp_path / "s", path=path)
    assert [row["text"] for row in rows(corpus)] == HARD_TEXTS
    assert rows(corpus)[1] == {
        "id": "d1",
        "text": HARD_TEXTS[1],
        "source": "local/train_0.jsonl:2",
        "url": "u1",
        "title": "題1",
        "meta": "{}",
    }


BROKEN = {
    b'{"text": "cut': "not JSON",
    b'{"text": "\xff\xfe"}': "not UTF-8",
    b'"a string"': "a JSON str",
    b'{"body": "x"}': "no field `text`",
    b'{"text": 12}': "a int `text`",
    b'{"text": null}': "no field `text`",
    b'{"text": "\\ud800"}': "not JSON",
}


def test_unreadable_lines_are_quarantined_with_place_and_reason(tmp_path):
    good = [record("本文", n) for n in range(3)]
    lines = [good[0], *BROKEN, good[1], b"", b"   ", good[2]]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    corpus = acquire(tmp_path / "s", path=tmp_path / "a.jsonl.gz", max_quarantined_share=1)
    quarantine = pq.read_table(corpus.path / "quarantine.parquet").to_pylist()
    content = b"\n".join(lines) + b"\n"
    for row, (raw, reason) in zip(quarantine, BROKEN.items(), strict=True):
        assert row["reason"].startswith(reason)
        assert row["raw"] == raw
        assert content[row["byte_offset"] :].startswith(raw)
        assert lines[row["line"] - 1] == raw
    counts = corpus.manifest.summary.counts
    assert (counts["num_lines_in"], counts["num_documents_kept"], counts["num_quarantined"]) == (12, 3, 7)
    assert counts["num_blank_lines"] == 2


def test_too_many_unreadable_lines_stop_the_stage(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([record("本文", 1), b"broken"]))
    with pytest.raises(QuarantineLimitError, match=r"1 of 2 lines.*line 2: not JSON"):
        acquire(tmp_path / "s", path=tmp_path / "a.jsonl")


def write_all_formats(folder: Path) -> None:
    folder.mkdir()
    (folder / "train_0.jsonl").write_bytes(record("零", 0) + b"\n")
    (folder / "train_1.jsonl.gz").write_bytes(gzip.compress(record("一", 1)))
    (folder / "train_2.jsonl.zst").write_bytes(zstd(record("二", 2)))
    pq.write_table(pa.table({"text": ["三"], "id": ["d3"], "extra": [7]}), folder / "train_3.parquet")
    (folder / "validation_0.jsonl").write_bytes(record("四", 4))
    (folder / "README.md").write_text("not data", encoding="utf-8")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_of_every_format_is_read_and_its_splits_are_recognised(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(parallel, "INLINE_BYTES", 0)
    write_all_formats(tmp_path / "in")
    corpus = acquire(tmp_path / "s", path=tmp_path / "in", workers=workers)
    assert [row["text"] for row in rows(corpus)] == list("零一二三四")
    assert [len(corpus.shards("train")), len(corpus.shards("validation"))] == [4, 1]
    assert rows(corpus)[3]["meta"] == '{"extra":7}'


def test_result_depends_neither_on_the_folder_nor_on_the_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "INLINE_BYTES", 0)
    write_all_formats(tmp_path / "a")
    write_all_formats(tmp_path / "b")
    first = acquire(tmp_path / "s1", path=tmp_path / "a", workers=1)
    second = acquire(tmp_path / "s2", path=tmp_path / "b", workers=2)
    assert (first.digest, first.path.name) == (second.digest, second.path.name)


def test_a_glob_and_changed_content_make_another_key(tmp_path):
    write_all_formats(tmp_path / "in")
    one = acquire(tmp_path / "s", path=tmp_path / "in" / "train_[01]*")
    assert [row["text"] for row in rows(one)] == ["零", "一"]
    (tmp_path / "in" / "train_0.jsonl").write_bytes(record("変更", 0))
    assert acquire(tmp_path / "s", path=tmp_path / "in" / "train_[01]*").path != one.path


def test_repeated_and_missing_ids_are_made_distinct_and_nothing_is_lost(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(record("甲", 1) + b"\n" + record("乙", 1) + '\n{"text": "丙"}\n'.encode())
    corpus = acquire(tmp_path / "s", path=tmp_path / "a.jsonl")
    assert [row["id"] for row in rows(corpus)] == ["d1", "d1@local/a.jsonl:2", "local/a.jsonl:3"]
    assert corpus.manifest.summary.counts["num_ids_made_distinct"] == 1


@given(num_documents=st.integers(1, 60), shards=st.integers(1, 4), wanted=st.integers(1, 70))
@settings(max_examples=15, deadline=None)
def test_the_draw_knows_nothing_of_shards_and_keeps_the_exact_number(tmp_path_factory, num_documents, shards, wanted):
    folder = tmp_path_factory.mktemp("draw")
    drawn = []
    for layout in (1, shards):
        source = folder / f"in{len(drawn)}"
        source.mkdir()
        for shard in range(layout):
            lines = [record(f"本文{n}", n) for n in range(num_documents) if n % layout == shard]
            (source / f"train_{shard}.jsonl").write_bytes(b"\n".join(lines))
        corpus = acquire(folder / f"s{len(drawn)}", path=source, max_documents=wanted)
        drawn.append({row["id"] for row in rows(corpus)})
        assert corpus.manifest.summary.counts["num_documents_unsampled"] == num_documents - len(drawn[-1])
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == min(wanted, num_documents)


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_a_truncated_file_is_refused_by_name(tmp_path, suffix):
    content = b"\n".join(record("本文" * 500, n) for n in range(50))
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": ["本文"] * 100}), path)
    else:
        path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else zstd(content))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=rf"a{suffix}`.*expected a whole"):
        acquire(tmp_path / "s", path=path)


def test_an_empty_folder_and_an_empty_file_say_so(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(SourceError, match="found no file"):
        acquire(tmp_path / "s", path=tmp_path / "in")
    (tmp_path / "in" / "a.jsonl").touch()
    with pytest.raises(SourceError, match="no documents"):
        acquire(tmp_path / "s", path=tmp_path / "in")


@pytest.mark.corpus
def test_the_real_corpus_is_read_whole(tmp_path, corpus):
    counts = acquire(tmp_path / "s", path=corpus, workers=2).manifest.summary.counts
    assert counts["num_documents_kept"] == 3725 + 37
    assert counts["num_quarantined"] == 0
