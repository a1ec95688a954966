"""Dedup against what was kept before and against evaluation sets: who goes, what the ledger says, and the laws."""

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data_contracts.errors import SourceError, WrongArtifact
from tasks.curation.config import DedupConfig, EvaluationSet, KeptCorpus
from tasks.curation.folding import fold_text
from tasks.curation.references import outside_digests
from tasks.stage import Request
from tasks.stages import DEDUP


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def against(*references) -> DedupConfig:
    return DedupConfig(against=references)


@pytest.fixture(scope="module")
def texts(prose) -> list[str]:
    return [prose(n, 300) for n in range(40)]


@pytest.fixture(scope="module")
def documents(texts, prose):
    return {
        "train-00000": [
            ("same", texts[0]),
            ("wide", texts[1].replace("0", "０") + "\u3000"),
            ("near", texts[2] + "追記がある。"),
            ("own", prose(900, 300)),
        ],
        "validation-00000": [("a", texts[3]), ("b", prose(901, 300)), ("b-copy", prose(901, 300))],
    }


def test_what_an_earlier_corpus_holds_is_removed_and_never_written(
    seal_corpus, run, kept_ids, ledger, texts, documents
) -> None:
    # Ids of the reference that the corpus has too, for other documents.
    earlier = run(DEDUP, DedupConfig(), corpus=seal_corpus({"train-00000": [("own", texts[0]), ("a", texts[1])]}))
    more = seal_corpus({"train-00000": [("r2", texts[2]), ("r3", texts[3])]})
    config = against(KeptCorpus(name="first", path=earlier.path), KeptCorpus(name="second", path=more.path))
    result = run(DEDUP, config, corpus=seal_corpus(documents))
    assert kept_ids(result) == ["own", "b"]
    rows = {row["id"]: row for row in ledger(result)}
    assert {name: (row["filter"], row["kept_id"]) for name, row in rows.items()} == {
        "same": ("known_duplicate", "first:own"),
        "wide": ("known_duplicate", "first:a"),
        "near": ("known_duplicate", "second:r2"),
        "a": ("known_duplicate", "second:r3"),
        "b-copy": ("exact_duplicate", "b"),
    }
    assert rows["near"]["matched_id"] == rows["near"]["cluster"] == "second:r2" and 0.8 <= rows["near"]["score"] < 1
    assert rows["same"]["reason"] == "known_duplicate: same comparison text as first:own"
    summary = result.manifest.summary
    assert summary.counts["removed_by_known_duplicate"] == 4 and "removed_by_contamination" not in summary.counts
    assert summary.proofs["survivors"]["num_removed_with_reference"] == 4
    assert [entry["digest"] for entry in summary.proofs["against"]] == [earlier.digest, more.digest]
    clusters = {row["id"]: row["cluster"] for row in pq.read_table(result.path / "clusters.parquet").to_pylist()}
    assert clusters["same"] == "first:own" and clusters["b"] == clusters["b-copy"] == "b"


def test_a_reference_may_be_files_of_any_kind(seal_corpus, run, kept_ids, ledger, texts, documents, tmp_path) -> None:
    write_lines(tmp_path / "a.jsonl.gz", [{"body": texts[0], "meta": {"id": "x"}}, {"body": texts[1]}])
    pq.write_table(pa.table({"body": [texts[2]], "id": ["p"]}), tmp_path / "b.parquet")
    config = against(KeptCorpus(name="old", path=tmp_path, text_field="body"))
    result = run(DEDUP, config, corpus=seal_corpus(documents))
    assert kept_ids(result) == ["own", "a", "b"]
    found = {row["id"]: row["kept_id"] for row in ledger(result)}
    assert found["same"] == "old:x" and found["near"] == "old:p" and found["wide"] == "old:./a.jsonl.gz:2"


def test_the_content_of_a_reference_is_identity_and_its_place_is_not(seal_corpus, tmp_path, texts) -> None:
    corpus = seal_corpus({"train-00000": [("a", texts[0])]})
    first, second = (write_lines(tmp_path / n / "r.jsonl", [{"text": texts[0]}]) for n in ("one", "two"))

    def key(path: Path) -> str:
        return Request.of(DEDUP, against(KeptCorpus(name="old", path=path)), {"corpus": corpus}).key

    assert key(first) == key(second)
    write_lines(second, [{"text": texts[1]}])
    assert key(first) != key(second)
    assert outside_digests(DedupConfig()) == {}


def test_references_that_cannot_be_used_are_named(seal_corpus, seal_raw, run, tmp_path, texts) -> None:
    corpus = seal_corpus({"train-00000": [("a", texts[0])]})
    with pytest.raises(SourceError, match=r"set `path` of the reference `old`"):
        run(DEDUP, against(KeptCorpus(name="old", path=tmp_path / "none.jsonl")), corpus=corpus)
    path = write_lines(tmp_path / "r.jsonl", [{"text": "よい行"}, {"body": "別の欄"}])
    with pytest.raises(SourceError, match=r"r.jsonl`: line 2 is no document: no field `text`"):
        run(DEDUP, against(KeptCorpus(name="old", path=path)), corpus=corpus)
    raw = seal_raw({"train-00000": [("a", texts[0])]})
    with pytest.raises(WrongArtifact, match="found raw_corpus"):
        run(DEDUP, against(KeptCorpus(name="old", path=raw.path)), corpus=corpus)
    with pytest.raises(ValidationError, match="expected each only once"):
        against(KeptCorpus(name="old", path=path), EvaluationSet(name="old", path=path))
    with pytest.raises(ValidationError, match="String should match pattern"):
        KeptCorpus(name="a:b", path=path)


SENTENCES = [
    "東京は日本の首都であり、世界でも有数の大都市である。",
    "京都には多くの寺と神社があり、毎年たくさんの人が訪れる。",
    "大阪の料理は安くておいしいと言われ、たこ焼きが有名である。",
    "北海道では冬に雪が多く降り、スキーを楽しむことができる。",
    "ﾊﾝｶｸのカタカナと全角のＡＢＣが混ざった文もここにある😀。",
]
EDITED = st.builds(
    lambda order, cut, tail: "".join(SENTENCES[n] for n in order)[cut:] + tail,
    st.lists(st.integers(0, len(SENTENCES) - 1), min_size=1, max_size=6),
    st.integers(0, 6),
    st.sampled_from(["", "追記。", " ", "\u3000\n", "第二版である。"]),
)


@settings(max_examples=8, deadline=None)
@given(st.lists(EDITED, max_size=10), st.lists(EDITED, max_size=10), st.booleans())
def test_dedup_against_all_that_came_before_is_dedup_of_both_together(
    seal_corpus, run, kept_ids, earlier: list[str], later: list[str], fuzzy: bool
) -> None:
    # Shipped validation ranks first, as a reference does.
    a = {"validation-00000": [(f"a{n}", text) for n, text in enumerate(earlier)]}
    b = {"train-00000": [(f"b{n}", text) for n, text in enumerate(later)]}
    corpus_a, corpus_b = seal_corpus(a), seal_corpus(b)
    plain = DedupConfig() if fuzzy else DedupConfig(fuzzy=None)
    union = [i for i in kept_ids(run(DEDUP, plain, corpus=seal_corpus(b | a))) if i.startswith("b")]

    def kept_against(reference) -> list[str]:
        config = plain.model_copy(update={"against": (KeptCorpus(name="a", path=reference.path),)})
        return kept_ids(run(DEDUP, config, workers=2, corpus=corpus_b))

    assert kept_against(corpus_a) == union
    kept = kept_against(run(DEDUP, plain, corpus=corpus_a))
    # A chain may have led to a document of A only through one that was removed from A; equality is transitive.
    assert kept == union if not fuzzy else set(kept) >= set(union)


@settings(max_examples=8, deadline=None)
@given(st.lists(EDITED, max_size=12), st.lists(EDITED, max_size=5), st.randoms(use_true_random=False))
def test_order_and_shards_change_nothing_and_again_removes_nothing(
    seal_corpus, run, kept_ids, ledger, texts: list[str], known: list[str], generator: random.Random
) -> None:
    rows = [(f"{n:02d}", text) for n, text in enumerate(texts)]
    mixed = generator.sample(rows, len(rows))
    reference = seal_corpus({"train-00000": [(f"k{n}", text) for n, text in enumerate(known)]})
    config = against(KeptCorpus(name="known", path=reference.path))
    one = run(DEDUP, config, corpus=seal_corpus({"train-00000": rows}))
    other = run(DEDUP, config, corpus=seal_corpus({f"train-{n:05d}": mixed[n::3] for n in range(3)}))
    assert sorted(kept_ids(one)) == sorted(kept_ids(other))

    def described(result):
        rows = sorted(ledger(result), key=lambda row: row["id"])
        return [{key: value for key, value in row.items() if key != "source"} for row in rows]

    assert described(one) == described(other)
    assert ledger(run(DEDUP, config, corpus=one)) == []


QUESTION = (
    "江戸幕府を開いた徳川家康が征夷大将軍に任じられたのは西暦何年のことか。次の四つの中から正しいものを選びなさい。"
)
PARAPHRASE = "家康が将軍になり、江戸に幕府を開設した年号として適切な選択肢はどれか。四択で答えよ。"
SHORT = "富士山の高さは？"


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> Path:
    rows = [
        {"id": "q1", "question": QUESTION},
        {"id": "q2", "question": SHORT},
        {"id": "q3", "question": "はい"},
        {"id": "q4", "question": ""},
    ]
    return write_lines(tmp_path_factory.mktemp("evaluation") / "bench.jsonl", rows)


def contaminated(run, ledger, seal_corpus, evaluation, rows, **fields) -> dict[str, dict]:
    config = against(EvaluationSet(name="bench", path=evaluation, text_field="question", **fields))
    result = run(DEDUP, config, corpus=seal_corpus({"train-00000": rows}))
    return {row["id"]: row for row in ledger(result) if row["filter"] == "contamination"}


def plain_containment(text: str, item: str, n: int) -> float:
    text, item = fold_text(text), fold_text(item)
    n = min(n, len(item))
    grams = {item[i : i + n] for i in range(len(item) - n + 1)}
    return sum(gram in text for gram in grams) / len(grams)


def test_planted_items_are_found_and_paraphrases_are_not(seal_corpus, run, ledger, evaluation, prose) -> None:
    full_width = QUESTION.replace("四", "四\u3000").replace("何年", "何\n年")
    rows = [
        ("planted", prose(1, 500) + QUESTION + prose(2, 500)),
        ("other form", prose(3, 500) + full_width + prose(4, 300)),
        ("tail only", prose(5, 500) + QUESTION[3:] + prose(6, 500)),
        ("half", prose(7, 500) + QUESTION[25:] + prose(8, 500)),
        ("paraphrase", prose(9, 500) + PARAPHRASE + prose(10, 500)),
        ("short", prose(11, 500) + "問１　富士山の 高さは?" + prose(12, 500)),
        ("yes", "はい" + prose(13, 500)),
        ("empty", ""),
    ]
    found = contaminated(run, ledger, seal_corpus, evaluation, rows)
    assert set(found) == {"planted", "other form", "tail only", "short"}
    assert found["short"]["matched_id"] == "bench:q2" and found["short"]["score"] == 1.0
    assert found["planted"]["matched_id"] == "bench:q1" and found["planted"]["threshold"] == 0.8
    assert found["planted"]["cluster"] is None and found["planted"]["kept_id"] is None
    for name in ("planted", "other form", "tail only"):
        assert found[name]["score"] == plain_containment(dict(rows)[name], QUESTION, 20)
    loose = contaminated(run, ledger, seal_corpus, evaluation, rows, min_containment=0.3, ngram_characters=10)
    assert set(loose) == {*found, "half"}
    assert loose["half"]["score"] == plain_containment(dict(rows)["half"], QUESTION, 10)


def test_near_duplicates_of_an_item_are_contamination_too(seal_corpus, run, ledger, tmp_path, prose) -> None:
    item = prose(70, 300)
    path = write_lines(tmp_path / "items.jsonl", [{"id": "q", "question": item}])
    # One edit in each 60 characters leaves few 20-grams and most 5-grams.
    edited = "".join(c if n % 60 != 30 else "亜" for n, c in enumerate(item))
    assert plain_containment(edited, item, 20) < 0.8
    found = contaminated(run, ledger, seal_corpus, path, [("edited", edited), ("other", prose(71, 300))])
    assert set(found) == {"edited"}
    assert found["edited"]["reason"].startswith("contamination: Jaccard similarity 0.8")
    assert found["edited"]["threshold"] == 0.8 <= found["edited"]["score"] < 1


def test_a_clean_copy_survives_a_contaminated_one(seal_corpus, run, kept_ids, ledger, evaluation, prose) -> None:
    text = prose(80, 600)
    rows = [("holds it", text + QUESTION), ("clean", text), ("copy", text)]
    known = seal_corpus({"train-00000": [("old", prose(81, 300))]})
    config = against(
        KeptCorpus(name="old", path=known.path), EvaluationSet(name="bench", path=evaluation, text_field="question")
    )
    result = run(DEDUP, config, corpus=seal_corpus({"train-00000": rows, "train-00001": [("old", prose(81, 300))]}))
    assert kept_ids(result) == ["clean"]
    assert {row["id"]: row["filter"] for row in ledger(result)} == {
        "holds it": "contamination",
        "copy": "exact_duplicate",
        "old": "known_duplicate",
    }
    summary = result.manifest.summary
    assert summary.counts["removed_by_contamination"] == summary.counts["removed_by_known_duplicate"] == 1
    assert summary.proofs["num_items_too_short"] == {"bench": 2}
    assert summary.proofs["survivors"]["num_removed_with_reference"] == 2


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(st.sampled_from("あいうえ"), max_size=60), max_size=8), st.lists(EDITED, max_size=4))
def test_containment_is_that_of_plain_python(seal_corpus, run, ledger, folders, texts, items) -> None:
    items = [*items, "あいうえあいうえあい", "ああいいうう"]
    path = write_lines(folders() / "items.jsonl", [{"id": str(n), "question": i} for n, i in enumerate(items)])
    rows = [(f"{n}", text) for n, text in enumerate([*texts, *(item[2:] + "後" for item in items)])]
    fields = {"ngram_characters": 6, "min_containment": 0.5, "min_item_characters": 6}
    found = contaminated(run, ledger, seal_corpus, path, rows, **fields)
    for name, text in rows:
        best = max((plain_containment(text, item, 6) for item in items if len(fold_text(item)) >= 6), default=0.0)
        if best >= 0.5:
            assert found[name]["score"] == best
        else:
            assert name not in found or "Jaccard" in found[name]["reason"]


def test_hard_texts_pass_against_references(seal_corpus, run, kept_ids, hard_texts, evaluation) -> None:
    reference = seal_corpus({"train-00000": list(hard_texts.items())})
    config = against(
        KeptCorpus(name="hard", path=reference.path),
        EvaluationSet(name="bench", path=evaluation, text_field="question"),
    )
    assert kept_ids(run(DEDUP, config, corpus=reference)) == []
