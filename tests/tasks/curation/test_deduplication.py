"""The stage dedup: who stays, what the ledger tells, and that nothing depends on order, shards or workers."""

import random

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.errors import DataError
from tasks import parallel
from tasks.curation.config import DedupConfig
from tasks.curation.deduplication import remove_duplicates
from tasks.runtime import Runtime
from tasks.stages import DEDUP
from tasks.workspace import Workspace


@pytest.fixture(scope="module")
def documents(prose):
    """Ten originals, of which one has exact, near and chained copies, one is shipped for validation as well."""
    base = [prose(n, 400) for n in range(10)]
    return {
        "train-00000": [(f"o{n}", text) for n, text in enumerate(base)],
        "train-00001": [
            ("exact-a", base[0]),
            ("exact-width", base[0].replace("0", "０") + "\u3000"),
            ("near-longer", base[0] + "追記がある。"),
            ("near-other", base[1][:-5]),
            ("leaked", base[2] + "短い続き。"),
        ],
        "validation-00000": [("v", base[2]), ("own", prose(77, 400))],
    }


def test_survivor_is_validation_first_then_the_longest_then_the_smallest_id(
    seal_corpus, run, kept_ids, ledger, documents
) -> None:
    result = run(DEDUP, DedupConfig(), corpus=seal_corpus(documents))
    assert kept_ids(result) == ["o1", *(f"o{n}" for n in range(3, 10)), "near-longer", "v", "own"]
    rows = {row["id"]: row for row in ledger(result)}
    assert {name: row["filter"] for name, row in rows.items()} == {
        "o0": "exact_duplicate",
        "exact-a": "near_duplicate",
        "exact-width": "exact_duplicate",
        "near-other": "near_duplicate",
        "o2": "exact_duplicate",
        "leaked": "near_duplicate",
    }
    assert {name: row["kept_id"] for name, row in rows.items()} == {
        "o0": "near-longer",
        "exact-a": "near-longer",
        "exact-width": "near-longer",
        "near-other": "o1",
        "o2": "v",
        "leaked": "v",
    }
    assert rows["o0"]["cluster"] == rows["exact-a"]["cluster"] == "exact-a"
    assert rows["o0"]["matched_id"] == "exact-a" and rows["o0"]["score"] == 1.0
    assert rows["exact-a"]["matched_id"] == "near-longer" and 0.8 <= rows["exact-a"]["score"] < 1
    texts = dict(row for shard in documents.values() for row in shard)
    for row in rows.values():
        assert row["text"] == texts[row["id"]] and row["source"] and row["split"] == "train" and row["reason"]
    clusters = pq.read_table(result.path / "clusters.parquet").to_pylist()
    assert len(clusters) == 9 and {c["cluster"] for c in clusters} == {"exact-a", "near-other", "leaked"}


def test_counts_and_proofs_reconcile(seal_corpus, run, kept_ids, ledger, documents) -> None:
    result = run(DEDUP, DedupConfig(), corpus=seal_corpus(documents))
    counts, proofs = result.manifest.summary.counts, result.manifest.summary.proofs
    assert counts["num_documents_in"] == 17 == len(kept_ids(result)) + len(ledger(result))
    assert counts["removed_by_exact_duplicate"] + counts["removed_by_near_duplicate"] == 6
    assert counts["num_characters_in"] == counts["num_characters_kept"] + counts["num_characters_removed"]
    assert counts["num_clusters"] == 3
    assert proofs["survivors"]["num_removed_with_kept_survivor"] == 6
    curve = proofs["near_duplicates"]["expected_recall"]
    assert list(curve) == [f"{step / 20:.2f}" for step in range(10, 21)]
    assert curve["0.50"] < 0.13 and curve["0.80"] > 0.997 and curve["1.00"] == 1.0


def test_each_kind_can_be_switched_off(seal_corpus, run, kept_ids, documents) -> None:
    corpus = seal_corpus(documents)
    none = run(DEDUP, DedupConfig(exact=False, fuzzy=None), corpus=corpus)
    assert len(kept_ids(none)) == 17
    exact = run(DEDUP, DedupConfig(fuzzy=None), corpus=corpus)
    assert len(kept_ids(exact)) == 14
    fuzzy = run(DEDUP, DedupConfig(exact=False), corpus=corpus)
    assert kept_ids(fuzzy) == kept_ids(run(DEDUP, DedupConfig(), corpus=corpus))


def test_deduplicating_again_removes_nothing(seal_corpus, run, kept_ids, ledger, documents) -> None:
    once = run(DEDUP, DedupConfig(), corpus=seal_corpus(documents))
    twice = run(DEDUP, DedupConfig(), corpus=once)
    assert kept_ids(twice) == kept_ids(once) and ledger(twice) == []
    assert pq.read_metadata(twice.path / "clusters.parquet").num_rows == 0


PIECES = st.lists(
    st.sampled_from(["東京は首都である。", "大阪は西にある。", "京都には寺が多い。", "Ａ", "a", " ", "\u3000"]),
    max_size=6,
)


@settings(max_examples=20, deadline=None)
@given(st.lists(PIECES.map("".join), max_size=14), st.randoms(use_true_random=False), st.integers(1, 3))
def test_order_shards_and_workers_do_not_change_who_stays(
    seal_corpus, run, kept_ids, ledger, texts, generator: random.Random, shards
) -> None:
    rows = [(f"{n:02d}", text) for n, text in enumerate(texts)]
    mixed = generator.sample(rows, len(rows))
    one = run(DEDUP, DedupConfig(), corpus=seal_corpus({"train-00000": rows}))
    parts = {f"train-{n:05d}": mixed[n::shards] for n in range(shards)}
    other = run(DEDUP, DedupConfig(), workers=2, corpus=seal_corpus(parts))
    assert sorted(kept_ids(one)) == sorted(kept_ids(other))

    def described(result):
        rows = sorted(ledger(result), key=lambda row: row["id"])
        return [{key: value for key, value in row.items() if key != "source"} for row in rows]

    assert described(one) == described(other)
    again = run(DEDUP, DedupConfig(), corpus=other)
    assert ledger(again) == []


def test_threads_and_processes_do_not_change_a_byte(
    seal_corpus, run, documents, prose, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = seal_corpus({**documents, "train-00002": [(f"m{n}", prose(500 + n // 2, 200)) for n in range(1200)]})
    alone = run(DEDUP, DedupConfig(), corpus=corpus).digest
    assert run(DEDUP, DedupConfig(), workers=3, corpus=corpus).digest == alone
    monkeypatch.setattr(parallel, "INLINE_BYTES", 0)
    monkeypatch.setattr(parallel, "THREADED_BYTES", 0)
    assert run(DEDUP, DedupConfig(), workers=2, corpus=corpus).digest == alone


def test_hard_texts_pass(seal_corpus, run, kept_ids, hard_texts) -> None:
    result = run(DEDUP, DedupConfig(), corpus=seal_corpus({"train-00000": list(hard_texts.items())}))
    assert set(hard_texts) - set(kept_ids(result)) == {"spaces"}


def test_empty_corpus_passes(seal_corpus, run, kept_ids, ledger) -> None:
    result = run(DEDUP, DedupConfig(), corpus=seal_corpus({"train-00000": []}))
    assert kept_ids(result) == [] and ledger(result) == []


def test_an_id_that_occurs_twice_is_refused(seal_corpus, run) -> None:
    corpus = seal_corpus({"train-00000": [("a", "一つ目"), ("b", "二つ目")], "train-00001": [("a", "三つ目")]})
    with pytest.raises(DataError, match=r"`a`: found on more than one document \(1 such ids\)"):
        run(DEDUP, DedupConfig(), corpus=corpus)


def test_the_scratch_of_a_killed_attempt_is_swept(seal_corpus, documents, tmp_path) -> None:
    corpus = seal_corpus(documents)
    (tmp_path / "work" / ".scratch" / "dedup" / "scan").mkdir(parents=True)
    (tmp_path / "work" / ".scratch" / "dedup" / "scan" / "own-00000-000.texts").write_bytes(b"half")
    summary = remove_duplicates(DedupConfig(), Workspace(tmp_path / "work", Runtime(store=tmp_path)), corpus)
    assert summary.counts["num_documents_in"] == 17
    assert not (tmp_path / "work" / ".scratch" / "dedup" / "scan").exists()


def test_output_for_a_fixed_input_is_the_recorded_one(seal_corpus, run, documents, check_golden) -> None:
    check_golden(DEDUP, run(DEDUP, DedupConfig(), corpus=seal_corpus(documents)))
