"""The stage filter: reconciliation, ledger, workers, and a kill in the middle."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.errors import ReconciliationError, WorkerLost
from tasks import parallel
from tasks.curation.config import FilterConfig, NormalizationConfig
from tasks.curation.documents import reconcile
from tasks.curation.filters.hiragana_ratio import HiraganaRatio
from tasks.curation.filters.length import Length
from tasks.curation.filters.symbol_ratio import SymbolRatio
from tasks.runtime import Runtime
from tasks.stage import Request
from tasks.stages import FILTER
from tasks.store import Store
from tasks.workspace import Workspace

SMALL = FilterConfig(cascade=(Length(min_characters=3), SymbolRatio(), HiraganaRatio()))
TEXTS = st.text(st.sampled_from([*"あいうえ漢字★+ \n\r\u3000"]), max_size=12)


@pytest.fixture(scope="module")
def documents(prose, hard_texts):
    """Four shards with Japanese prose, hard texts and what each filter is there for."""
    faults = {
        "short": "短い。",
        "symbols": "★☆◆■★☆♪" * 30 + "です",
        "english": "The quick brown fox jumps over the lazy dog near the river bank. " * 5,
        "kanji": "東京都千代田区永田町首相官邸国会議事堂" * 8,
    }
    shards = {f"train-{n:05d}": [(f"p{n}-{i}", prose(100 * n + i, 300)) for i in range(8)] for n in range(3)}
    shards["train-00001"] += [(f"hard-{name}", text) for name, text in hard_texts.items()]
    shards["train-00002"] += list(faults.items())
    return {**shards, "validation-00000": [("v", prose(999, 300))]}


def test_every_document_is_kept_or_in_the_ledger_with_its_reason(seal_raw, run, kept_ids, ledger, documents) -> None:
    result = run(FILTER, FilterConfig(), raw=seal_raw(documents))
    removed = {row["id"]: row for row in ledger(result)}
    kept = kept_ids(result)
    assert sorted([*kept, *removed]) == sorted(i for rows in documents.values() for i, _ in rows)
    assert {i for i in kept if i.startswith("p")} == {i for s in documents.values() for i, _ in s if i.startswith("p")}
    expected = {"short": "length", "symbols": "symbol_ratio", "english": "language"}
    assert {name: removed[name]["filter"] for name in expected} == expected
    assert removed["kanji"]["filter"] in ("language", "hiragana_ratio")
    for row in removed.values():
        assert row["filter"] in row["reason"] and row["split"] == "train" and row["source"].startswith("test/")
        assert row["cluster"] is None and row["kept_id"] is None
    summary = result.manifest.summary
    counts = summary.counts
    assert counts["num_documents_in"] == len(kept) + len(removed)
    assert counts["num_documents_removed"] == sum(n for name, n in counts.items() if name.startswith("removed_by_"))
    assert counts["num_characters_in"] - counts["num_characters_normalized_away"] == (
        counts["num_characters_kept"] + counts["num_characters_removed"]
    )
    assert counts["removed_by_repetition"] + counts["removed_by_duplicate_lines"] >= 1
    assert summary.proofs["documents"]["num_documents_in"] == counts["num_documents_in"]
    assert {e["filter"] for e in summary.examples} == {row["filter"] for row in removed.values()}


@settings(max_examples=15, deadline=None)
@given(st.lists(TEXTS, max_size=12), st.integers(1, 4))
def test_shards_and_order_do_not_change_what_is_kept(seal_raw, run, kept_ids, texts, shards) -> None:
    rows = [(str(i), text) for i, text in enumerate(texts)]
    whole = run(FILTER, SMALL, raw=seal_raw({"train-00000": rows}))
    parts = run(FILTER, SMALL, raw=seal_raw({f"train-{n:05d}": rows[::-1][n::shards] for n in range(shards)}))
    assert sorted(kept_ids(whole)) == sorted(kept_ids(parts))
    assert whole.manifest.summary.counts == parts.manifest.summary.counts


def test_filtering_what_was_filtered_removes_nothing(seal_raw, run, kept_ids, documents) -> None:
    first = run(FILTER, FilterConfig(), raw=seal_raw(documents))
    rows = {p.stem: [(r["id"], r["text"]) for r in pq.read_table(p).to_pylist()] for p in first.shards()}
    second = run(FILTER, FilterConfig(), raw=seal_raw(rows))
    assert kept_ids(second) == kept_ids(first)
    assert second.manifest.summary.counts["num_documents_normalized"] == 0


def test_workers_do_not_change_a_byte(seal_raw, run, documents, monkeypatch) -> None:
    raw = seal_raw(documents)
    alone = run(FILTER, FilterConfig(), raw=raw)
    monkeypatch.setattr(parallel, "INLINE_BYTES", 0)
    together = run(FILTER, FilterConfig(), workers=2, raw=raw)
    assert alone.digest == together.digest
    assert alone.manifest.summary == together.manifest.summary


def test_kept_text_is_the_cleaned_one_and_nfkc_is_an_option(seal_raw, run) -> None:
    raw = seal_raw({"train-00000": [("a", "ｶﾞｲﾄﾞ\r\nか\u3099あいう \n")]})
    for form, text in (("NFC", "ｶﾞｲﾄﾞ\nがあいう"), ("NFKC", "ガイド\nがあいう")):
        config = FilterConfig(normalization=NormalizationConfig(unicode_form=form), cascade=())
        result = run(FILTER, config, raw=raw)
        assert pq.read_table(result.shards()[0])["text"].to_pylist() == [text]
        assert result.manifest.summary.counts["num_documents_normalized"] == 1


def test_empty_corpus_and_empty_shards_pass(seal_raw, run, kept_ids, ledger) -> None:
    result = run(FILTER, FilterConfig(), raw=seal_raw({"train-00000": [], "validation-00000": []}))
    assert kept_ids(result) == [] and ledger(result) == []
    assert [p.name for p in result.shards()] == ["train-00000.parquet", "validation-00000.parquet"]
    assert result.manifest.summary.counts["num_documents_in"] == 0


KILLED = """
import os, signal, sys
from data_contracts.artifacts import RawCorpus
from tasks.curation.config import FilterConfig
from tasks.runtime import Runtime
from tasks.stage import Request
from tasks.stages import FILTER
from tasks.store import Store

def progress(done, total=None, **_):
    if done:
        os.kill(os.getpid(), signal.SIGKILL)

store = Store(sys.argv[1])
request = Request.of(FILTER, FilterConfig(), {"raw": RawCorpus.open(sys.argv[2])})
store.build(request, Runtime(store=store.root), progress)
"""


def test_killed_stage_keeps_finished_shards_and_ends_with_the_same_bytes(seal_raw, run, documents, tmp_path) -> None:
    raw = seal_raw(documents)
    root = Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path, raw.path], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    store, request = Store(tmp_path), Request.of(FILTER, FilterConfig(), {"raw": raw})
    [done] = (store.partial(request) / "documents").iterdir()
    before = done.stat().st_mtime_ns
    # A second shard was begun: what a half-written one leaves must not be taken for a result.
    (store.partial(request) / ".scratch" / "train-00001.json").write_text("{")
    path, status = store.build(request, Runtime(store=store.root))
    assert status == "resumed"
    assert (path / "documents" / done.name).stat().st_mtime_ns == before
    assert FILTER.output.open(path).digest == run(FILTER, FilterConfig(), raw=raw).digest
    names = {"documents", "ledger.parquet", "edits.parquet", "histograms.json", "manifest.json"}
    assert {p.name for p in path.iterdir()} == names


def test_lost_rows_fail_the_stage(seal_raw, run, tmp_path) -> None:
    raw = seal_raw({"train-00000": [("a", "あいう"), ("b", "漢字漢字")]})
    result = run(FILTER, SMALL, raw=raw)
    counts = result.manifest.summary.counts
    workspace = Workspace(result.path, Runtime(store=tmp_path))
    assert reconcile("filter", workspace, raw.shards(), counts)["num_documents_in"] == 2
    pq.write_table(pq.read_table(result.shards()[0]).slice(1), result.shards()[0])
    with pytest.raises(ReconciliationError, match=r"`filter`: found .* expected in = kept \+ removed"):
        reconcile("filter", workspace, raw.shards(), counts)


def test_dead_worker_is_a_clear_error(tmp_path) -> None:
    # A function of this module would not be found by a spawned process: pytest's importlib mode hides test modules.
    with pytest.raises(WorkerLost, match="a worker process died"):
        list(parallel.map_jobs(os._exit, [1, 2], runtime=Runtime(store=tmp_path, workers=2), num_bytes=1 << 30))


def test_output_for_a_fixed_input_is_the_recorded_one(seal_raw, run, documents, check_golden) -> None:
    check_golden(FILTER, run(FILTER, FilterConfig(), raw=seal_raw(documents)))


def test_config_survives_json() -> None:
    config = FilterConfig()
    assert FilterConfig.model_validate(json.loads(config.model_dump_json())) == config
