"""The stage split: shares, stability, and that near-duplicates never straddle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.errors import DataError
from tasks.curation import splitting
from tasks.curation.config import SplitConfig
from tasks.curation.engines.steps import steps_on
from tasks.curation.splitting import VALIDATION, side_of
from tasks.stages import SPLIT

HALF = SplitConfig(validation_share=0.5)


@pytest.fixture(scope="module")
def texts(prose) -> list[tuple[str, str]]:
    """300 documents of 200 characters, each tenth a near-copy of the one before."""
    rows = [(f"d{n:03d}", prose(n, 200)) for n in range(300)]
    return [(i, rows[n - 1][1] + "追記。" if n % 10 == 9 else text) for n, (i, text) in enumerate(rows)]


def sides(result, kept_ids) -> dict[str, str]:
    return {i: split for split in ("train", "validation") for i in kept_ids(result, split)}


def test_share_is_met_and_near_duplicates_stay_together(seal_corpus, run, kept_ids, ledger, texts) -> None:
    result = run(SPLIT, HALF, corpus=seal_corpus({"train-00000": texts}))
    found = sides(result, kept_ids)
    assert len(found) == 300 and ledger(result) == []
    assert 120 < sum(side == "validation" for side in found.values()) < 180
    assert all(found[f"d{n:03d}"] == found[f"d{n - 1:03d}"] for n in range(9, 300, 10))
    summary = result.manifest.summary
    assert summary.proofs["leak"]["num_pairs_across"] == 0
    assert summary.proofs["leak"]["num_duplicate_pairs"] == 30
    assert summary.counts["num_components"] == 270
    assert summary.counts["num_documents_train"] + summary.counts["num_documents_validation"] == 300
    assert summary.counts["removed_by_leak"] == 0


@pytest.mark.parametrize("drawn", [True, False], ids=["drawn", "as shipped"])
def test_every_byte_on_a_device_is_that_of_the_local_engine(
    seal_corpus, run, ledger, texts, device, monkeypatch, drawn
) -> None:
    config = HALF if drawn else SplitConfig(keep_source_validation=True)
    corpus = seal_corpus({"train-00000": texts[:109], "train-00001": [], "validation-00000": texts[109:]})
    local = run(SPLIT, config, corpus=corpus)
    monkeypatch.setattr(splitting, "steps_of", lambda runtime: steps_on(device))
    other = run(SPLIT, config, corpus=corpus)
    assert (other.digest, other.manifest.summary) == (local.digest, local.manifest.summary)
    assert bool(ledger(local)) != drawn


def test_rows_keep_their_order_and_shards_are_bounded(seal_corpus, run, kept_ids, texts) -> None:
    corpus = seal_corpus({"train-00000": texts[:100], "train-00001": texts[100:]})
    config = HALF.model_copy(update={"rows_per_shard": 40})
    result = run(SPLIT, config, corpus=corpus)
    for split in ("train", "validation"):
        assert kept_ids(result, split) == sorted(kept_ids(result, split))
        shards = result.shards(split)
        assert [p.stem for p in shards] == [f"{split}-{n:05d}" for n in range(len(shards))]
        sizes = [len(kept_ids(_One(shard))) for shard in shards]
        assert len(sizes) > 1 and all(size == 40 for size in sizes[:-1]) and 0 < sizes[-1] <= 40
    whole = run(SPLIT, HALF, corpus=corpus)
    assert sides(whole, kept_ids) == sides(result, kept_ids)


class _One:
    """A single shard where a corpus is asked for its shards."""

    def __init__(self, shard) -> None:
        self._shard = shard

    def shards(self, split=None):
        return [self._shard]


@settings(max_examples=12, deadline=None)
@given(st.sets(st.integers(0, 299), min_size=40), st.integers(0, 5))
def test_documents_added_later_move_no_other(seal_corpus, run, kept_ids, texts, chosen: set[int], seed: int) -> None:
    # Copies come and go with their originals: a document that joins a component may well move it.
    chosen = {n for n in chosen if n % 10 not in (8, 9)}
    config = SplitConfig(validation_share=0.4, seed=seed)
    whole = sides(run(SPLIT, config, corpus=seal_corpus({"train-00000": texts})), kept_ids)
    few = {"train-00000": [texts[n] for n in sorted(chosen, reverse=True)]}
    part = sides(run(SPLIT, config, workers=2, corpus=seal_corpus(few)), kept_ids)
    assert part == {name: whole[name] for name in part}


def test_shipped_validation_is_kept_and_its_copies_leave_train(seal_corpus, run, kept_ids, ledger, prose) -> None:
    base = [prose(n, 300) for n in range(6)]
    corpus = seal_corpus(
        {
            "train-00000": [("t0", base[0]), ("t1", base[1]), ("same", base[4]), ("near", base[5] + "続き。")],
            "validation-00000": [("v4", base[4]), ("v5", base[5])],
        }
    )
    result = run(SPLIT, SplitConfig(keep_source_validation=True), corpus=corpus)
    assert kept_ids(result, "train") == ["t0", "t1"]
    assert kept_ids(result, "validation") == ["v4", "v5"]
    rows = {row["id"]: row for row in ledger(result)}
    assert {name: (row["filter"], row["kept_id"]) for name, row in rows.items()} == {
        "same": ("leak", "v4"),
        "near": ("leak", "v5"),
    }
    assert rows["same"]["score"] == 1.0 and 0.8 <= rows["near"]["score"] < 1
    assert rows["near"]["matched_id"] == "v5" and rows["near"]["cluster"] == "near" and rows["near"]["text"]
    counts = result.manifest.summary.counts
    assert counts["num_documents_in"] == 6 and counts["removed_by_leak"] == 2
    pooled = run(SPLIT, HALF, corpus=corpus)
    assert len(kept_ids(pooled)) == 6


@pytest.mark.parametrize(
    ("config", "rows", "message"),
    [
        (SplitConfig(), [("a", "一つだけの文書")], "no document for validation among 1"),
        (SplitConfig(validation_share=0.99999), [("a", "一つだけの文書")], "no document for train among 1"),
        (SplitConfig(keep_source_validation=True), [("a", "文書")], "set keep_source_validation to false"),
        (SplitConfig(), [], "no document for train among 0"),
    ],
)
def test_an_empty_side_is_a_clear_error(seal_corpus, run, config, rows, message) -> None:
    with pytest.raises(DataError, match=message):
        run(SPLIT, config, corpus=seal_corpus({"train-00000": rows}))


def test_another_seed_gives_another_split_of_the_same_size() -> None:
    chosen = [{n for n in range(20_000) if side_of(str(n), SplitConfig(seed=seed)) == VALIDATION} for seed in (0, 1)]
    assert all(900 < len(ids) < 1100 for ids in chosen)
    assert len(chosen[0] & chosen[1]) < 100


def test_hard_texts_pass(seal_corpus, run, kept_ids, hard_texts) -> None:
    result = run(SPLIT, HALF, corpus=seal_corpus({"train-00000": list(hard_texts.items())}))
    assert sorted(kept_ids(result)) == sorted(hard_texts)
    assert sides(result, kept_ids)["empty"] == sides(result, kept_ids)["spaces"]


def test_output_for_a_fixed_input_is_the_recorded_one(seal_corpus, run, texts, check_golden) -> None:
    check_golden(SPLIT, run(SPLIT, HALF, corpus=seal_corpus({"train-00000": texts[:60]})))
