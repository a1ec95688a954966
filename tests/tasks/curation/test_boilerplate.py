"""Lines that many documents share: counted exactly, the same for any sharding, judged and taken out."""

import random
from collections import Counter
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import parallel
from tasks.curation import line_hashes
from tasks.curation.config import FilterConfig
from tasks.curation.filters.base import Batch
from tasks.curation.filters.boilerplate import BoilerplateShare, LineFrequency, RemoveBoilerplateLines
from tasks.curation.filters.length import Length
from tasks.curation.line_hashes import lines_of, merged
from tasks.stages import FILTER

LINE = st.text(st.sampled_from([*"あア漢A1😀。 \t\u3000"]), max_size=4)
TEXTS = st.lists(st.lists(LINE, max_size=6).map("\n".join), max_size=12)
SHARE, REMOVE = BoilerplateShare(min_documents=3), RemoveBoilerplateLines(min_documents=3)
FOOTER = "この記事は自由に配布できます。\u3000詳しくは利用規約を見てください。"


def plain(texts: list[str], min_characters: int) -> Counter[str]:
    """In how many texts each line occurs."""
    lines = ({line.strip(" \t\u3000") for line in text.split("\n")} for text in texts)
    return Counter(line for own in lines for line in own if len(line) >= max(min_characters, 1))


def counted(statistic: LineFrequency, shards: list[list[str]]) -> pa.Table:
    return statistic.finish(statistic.combine(statistic.gather(pa.array(shard, pa.string())) for shard in shards))


@given(TEXTS, st.integers(1, 3), st.integers(1, 4))
def test_counts_are_those_of_plain_python_for_any_sharding(texts, min_characters, num_shards) -> None:
    statistic = LineFrequency(min_characters)
    expected = Counter(number for number in plain(texts, min_characters).values() if number >= 2)
    whole = counted(statistic, [texts])
    assert Counter(whole["num_documents"].to_pylist()) == expected
    parts = counted(statistic, [texts[::-1][n::num_shards] for n in range(num_shards)])
    assert parts.equals(whole)
    hashes = whole["hash"].to_numpy()
    assert (hashes[1:] > hashes[:-1]).all()


@given(TEXTS, st.integers(2, 3))
def test_share_and_removal_equal_their_definitions(texts: list[str], min_documents: int) -> None:
    frequent = {line for line, number in plain(texts, 2).items() if number >= min_documents}
    statistic = LineFrequency(2)
    array = pa.array(texts, pa.string())
    batch = Batch(
        pa.array([str(n) for n in range(len(texts))], pa.string()), array, {statistic.name: counted(statistic, [texts])}
    )
    stripped = [[line.strip(" \t\u3000") for line in text.split("\n")] for text in texts]
    expected = [sum(len(x) for x in own if x in frequent) / max(1, sum(map(len, own))) for own in stripped]
    share = BoilerplateShare(min_characters=2, min_documents=min_documents)
    np.testing.assert_allclose(share.apply(batch).scores["boilerplate_share"], expected, rtol=1e-12)
    outcome = RemoveBoilerplateLines(min_characters=2, min_documents=min_documents).apply(batch)
    removed = {row["id"]: row for row in outcome.edits.to_pylist()} if outcome.edits else {}
    for index, (before, after) in enumerate(zip(texts, outcome.texts.to_pylist(), strict=True)):
        gone = [line for line in before.split("\n") if line.strip(" \t\u3000") in frequent]
        left = [line for line in before.split("\n") if line.strip(" \t\u3000") not in frequent]
        assert after == ("\n".join(left).strip("\n") if gone else before)
        assert (str(index) in removed) == bool(gone)
        if gone:
            row = removed[str(index)]
            assert row["removed"] == "\n".join(gone) and row["num_places"] == len(gone)
            assert row["num_characters_removed"] == len(before) - len(after)


def test_hard_lines_have_hashes_of_their_own(hard_texts) -> None:
    texts = [
        *hard_texts.values(),
        "あ" * 8 + "い",
        "あ" * 8 + "う",
        "a" * 8,
        "a" * 16,
        "a" * 9,
        "\x00" * 8,
        "\x00" * 16,
    ]
    lines = {line.strip(" \t\u3000") for text in texts for line in text.split("\n")} - {""}
    hashes = lines_of(pa.array(texts, pa.large_string()), 1).hashes
    assert len(set(hashes.tolist()) - {0}) == len(lines)
    assert len(lines_of(pa.array([], pa.string()), 1).hashes) == 0
    sliced = lines_of(pa.array(texts).slice(3, 4), 1)
    assert sliced.hashes.tolist() == lines_of(pa.array(texts[3:7]), 1).hashes.tolist()


def test_long_lines_that_fool_polynomials_are_told_apart() -> None:
    # Thue and Morse's words of 2,048 letters collide modulo 2^64 under x -> x * base + letter, whatever the base.
    word, mirror = "a", "b"
    for _ in range(11):
        word, mirror = word + mirror, mirror + word
    assert len(set(lines_of(pa.array([f"{word}\n{mirror}"]), 1).hashes.tolist())) == 2


def test_tables_are_merged_range_by_range_with_the_same_result(monkeypatch) -> None:
    generator = np.random.default_rng(1)
    parts = []
    for _ in range(5):
        hashes = np.unique(generator.integers(0, 5000, 2000).astype(np.uint64) * np.uint64(1 << 51))
        parts.append(pa.table([hashes, np.ones(len(hashes), np.uint32)], schema=line_hashes.FREQUENCIES))
    whole = merged(parts)
    monkeypatch.setattr(line_hashes, "HASHES_PER_MERGE", 100)
    assert merged(parts).equals(whole)
    counter = Counter(value for part in parts for value in part["hash"].to_pylist())
    assert dict(zip(whole["hash"].to_pylist(), whole["num_documents"].to_pylist(), strict=True)) == counter


@pytest.fixture(scope="module")
def documents(prose):
    """Four shards: a footer on every second document, and a document that is nothing but lines of others."""
    generator = random.Random(3)
    rows = [(f"d{n}", prose(n, 120) + (f"\n\n {FOOTER}" if n % 2 else "")) for n in range(24)]
    rows += [(f"menu{n}", f"{FOOTER}\n前の記事へ戻るにはこちら\n次の記事へ進むにはこちら") for n in range(3)]
    generator.shuffle(rows)
    return {f"train-{n:05d}": rows[n::3] for n in range(3)} | {"validation-00000": [("v", FOOTER)]}


@pytest.mark.parametrize("cascade", [(SHARE,), (REMOVE,), (SHARE, REMOVE), (Length(min_characters=30), REMOVE)])
def test_shards_and_order_do_not_change_the_result(seal_raw, run, ledger, documents, cascade) -> None:
    def outcome(shards):
        result = run(FILTER, FilterConfig(cascade=cascade), raw=seal_raw(shards))
        rows = [row for shard in result.shards() for row in pq.read_table(shard, columns=["id", "text"]).to_pylist()]
        edits = pq.read_table(result.path / "edits.parquet", columns=["id", "filter", "removed"]).to_pylist()
        judged = [(row["id"], row["filter"], row["score"]) for row in ledger(result)]
        return sorted(map(str, rows)), sorted(map(str, edits)), sorted(judged), result.manifest.summary.counts

    validation = documents["validation-00000"]
    rows = [row for shard, shard_rows in documents.items() if shard != "validation-00000" for row in shard_rows]
    assert outcome({"train-00000": rows[::-1], "validation-00000": validation}) == outcome(documents)


def test_workers_do_not_change_a_byte(seal_raw, run, documents, monkeypatch) -> None:
    config, raw = FilterConfig(cascade=(SHARE, REMOVE)), seal_raw(documents)
    alone = run(FILTER, config, raw=raw)
    monkeypatch.setattr(parallel, "INLINE_BYTES", 0)
    together = run(FILTER, config, workers=2, raw=raw)
    assert together.digest == alone.digest
    assert together.manifest.summary == alone.manifest.summary


def test_share_removes_and_edit_keeps_the_document(seal_raw, run, ledger, kept_ids, documents) -> None:
    raw = seal_raw(documents)
    judged = run(FILTER, FilterConfig(cascade=(SHARE,)), raw=raw)
    assert {row["id"] for row in ledger(judged)} == {"menu0", "menu1", "menu2", "v"}
    assert all(row["score"] == 1 and "maximum of 0.5" in row["reason"] for row in ledger(judged))
    edited = run(FILTER, FilterConfig(cascade=(REMOVE,)), raw=raw)
    counts = edited.manifest.summary.counts
    texts = {r["id"]: r["text"] for shard in edited.shards() for r in pq.read_table(shard).to_pylist()}
    assert len(texts) == 28 and not any(FOOTER in text for text in texts.values())
    assert texts["menu0"] == texts["v"] == ""
    assert counts["num_documents_edited"] == 12 + 3 + 1
    edits = pq.read_table(edited.path / "edits.parquet").to_pylist()
    assert {row["removed"] for row in edits if row["id"].startswith("d")} == {f" {FOOTER}"}
    assert counts["num_characters_edited_away"] == sum(row["num_characters_removed"] for row in edits)


def test_steps_with_other_parameters_do_not_share_a_table(seal_raw, run, ledger) -> None:
    rows = [(str(n), f"短い行です\n{n}番目の文書の本文である。") for n in range(5)]
    only = partial(BoilerplateShare, min_documents=5, max_ratio=0.2)
    config = FilterConfig(cascade=(only(min_characters=10), only(min_characters=5), REMOVE))
    assert len(ledger(run(FILTER, config, raw=seal_raw({"train-00000": rows})))) == 5
    assert LineFrequency(5).name != LineFrequency(10).name
    longer = FilterConfig(cascade=(only(min_characters=10),))
    assert ledger(run(FILTER, longer, raw=seal_raw({"train-00000": rows}))) == []


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["一行目", "二行目", "三", "", FOOTER]), max_size=4).map("\n".join), max_size=8)
)
def test_counts_reconcile(seal_raw, run, texts) -> None:
    rows = [(str(n), text) for n, text in enumerate(texts)]
    remove = RemoveBoilerplateLines(min_characters=1, min_documents=2)
    first = run(FILTER, FilterConfig(cascade=(remove,)), raw=seal_raw({"train-00000": rows}))
    counts = first.manifest.summary.counts
    assert counts["num_documents_in"] == counts["num_documents_kept"] == len(rows)
    left = counts["num_characters_in"] - counts["num_characters_normalized_away"] - counts["num_characters_edited_away"]
    assert left == counts["num_characters_kept"]
