"""Comparison form, n-gram sets, candidates and clusters against their definitions in plain Python."""

import random
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.curation import minhash
from tasks.curation.clusters import Clusters, Edges, find_clusters, fingerprint, near_duplicate_pairs
from tasks.curation.config import FuzzyConfig
from tasks.curation.folding import fold, fold_text
from tasks.curation.minhash import gram_sets, jaccards

FUZZY = FuzzyConfig()
SMALL_TEXTS = st.lists(st.text(st.sampled_from("あいうＡa ガｶﾞ㈱"), max_size=14), max_size=10)


def column(texts: list[str], size: int = 5) -> pa.ChunkedArray:
    """A text column in chunks, as it comes from row groups."""
    return pa.chunked_array([texts[i : i + size] for i in range(0, len(texts), size)], pa.string())


def grams(text: str, n: int = 5) -> set[str]:
    text = fold_text(text)
    return {text[i : i + n] for i in range(max(1, len(text) - n + 1))}


def plain_jaccard(a: str, b: str, n: int = 5) -> float:
    first, second = grams(a, n), grams(b, n)
    return len(first & second) / len(first | second)


def pairs_of(texts: list[str], config: FuzzyConfig = FUZZY, threads: int = 1) -> Edges:
    rows, documents = column(texts), np.arange(len(texts))
    return near_duplicate_pairs(rows, documents, fingerprint(rows, config), documents, config, threads=threads)


def clusters_of(texts: list[str], rank: list[int] | None = None, *, exact: bool = True, threads: int = 1) -> Clusters:
    rows, order = column(texts), np.array(rank if rank is not None else range(len(texts)), dtype=np.int64)
    return find_clusters(rows, fingerprint(rows, FUZZY), order, exact=exact, fuzzy=FUZZY, threads=threads)


def variants(generator: random.Random, text: str, count: int) -> list[str]:
    """Copies of a text with one to many replaced characters: similarities on both sides of the threshold."""
    copies = []
    for _ in range(count):
        copy = list(text)
        for _ in range(generator.randint(1, 14)):
            copy[generator.randrange(len(copy))] = generator.choice("亜唖娃阿哀愛挨")
        copies.append("".join(copy))
    return copies


@pytest.fixture(scope="module")
def families(prose: Callable[[int, int], str]) -> list[str]:
    """250 documents in families of similar ones."""
    generator = random.Random(3)
    return [text for n in range(25) for text in variants(generator, prose(n, 300), 10)]


@settings(deadline=None)
@given(st.lists(st.text() | st.text(st.sampled_from("か\u3099ｶﾞΣσ İ\u1112\u1161\u11ab①½…Ａ\u3000\u0345\u0300a"))))
def test_comparison_form_is_nfkc_lower_case_without_white_space(texts: list[str]) -> None:
    folded = fold(column(texts))
    found = [
        folded.codes[start:stop].tobytes().decode("utf-32-le")
        for start, stop in zip(folded.bounds, folded.bounds[1:], strict=False)
    ]
    assert found == [fold_text(text) for text in texts]


def test_hard_texts_have_the_comparison_form_of_plain_python(hard_texts: dict[str, str]) -> None:
    folded = fold(column(list(hard_texts.values())))
    for index, text in enumerate(hard_texts.values()):
        codes = folded.codes[folded.bounds[index] : folded.bounds[index + 1]]
        assert codes.tobytes().decode("utf-32-le") == fold_text(text)
    assert fold_text("ｶﾞ Ａ\u3000㈱") == "ガa(株)"


@settings(deadline=None)
@given(SMALL_TEXTS, st.integers(1, 7))
def test_similarity_is_that_of_the_real_sets(texts: list[str], ngram: int) -> None:
    sets = gram_sets(fold(column(texts)), ngram)
    assert np.diff(sets.bounds).tolist() == [len(grams(text, ngram)) for text in texts]
    pairs = np.array([(i, j) for i in range(len(texts)) for j in range(len(texts))], np.int64).reshape(-1, 2)
    found = jaccards(*sets, pairs, 0.0)
    assert found.tolist() == [plain_jaccard(texts[i], texts[j], ngram) for i, j in pairs]


def test_pairs_are_those_of_brute_force(families: list[str]) -> None:
    sets = [grams(text) for text in families]
    scores = {(i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for i, j in combinations(range(len(sets)), 2)}
    near = {pair: score for pair, score in scores.items() if score >= 0.8}
    edges = pairs_of(families)
    found = {
        tuple(sorted(pair)): score for pair, score in zip(edges.pairs.tolist(), edges.jaccard.tolist(), strict=True)
    }
    assert 100 < len(near) < 1000
    assert found.items() <= near.items(), "false positives, or a similarity that is not the exact one"
    assert len(found) >= 0.99 * len(near)


def test_expected_recall_is_the_measured_one(prose: Callable[[int, int], str]) -> None:
    generator = random.Random(8)
    config = FuzzyConfig(bands=8, rows=8, permutations=64)
    similar = [(text, copy) for n in range(300) for text in [prose(n, 250)] for copy in variants(generator, text, 1)]
    texts = [text for pair in similar for text in pair]
    scores = [plain_jaccard(*pair) for pair in similar]
    hits = {tuple(sorted(pair)) for pair in pairs_of(texts, config).pairs.tolist()}
    wanted = [n for n, score in enumerate(scores) if score >= 0.8]
    expected = sum(config.recall_at(scores[n]) for n in wanted)
    found = sum((2 * n, 2 * n + 1) in hits for n in wanted)
    assert abs(found - expected) < 4 * np.sqrt(len(wanted)) / 2


@pytest.mark.parametrize("limit", [2, 5])
def test_big_buckets_give_the_same_components(families: list[str], limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = clusters_of(families)
    monkeypatch.setattr(minhash, "MAX_BUCKET", limit)
    reduced = clusters_of(families)
    assert reduced.survivor.tolist() == whole.survivor.tolist()
    assert set(map(tuple, np.sort(reduced.edges.pairs))) <= set(map(tuple, np.sort(whole.edges.pairs)))
    assert (reduced.edges.jaccard >= 0.8).all()


def test_a_thousand_near_copies_cost_about_a_thousand_comparisons(prose: Callable[[int, int], str]) -> None:
    text = prose(4, 400)
    clusters = clusters_of([f"{text}{number:04d}" for number in range(1000)] + [prose(n, 400) for n in range(10, 30)])
    assert (clusters.survivor[:1000] == 0).all()
    assert clusters.survivor[1000:].tolist() == list(range(1000, 1020))
    assert clusters.edges.num_compared < 3000


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([2, 64]))
def test_order_and_threads_do_not_change_clusters_or_best_edges(
    families: list[str], generator: random.Random, limit: int
) -> None:
    texts = [*families[:120], *families[:20], "", " "]
    ranks = list(range(len(texts)))
    order = generator.sample(ranks, len(ranks))

    def described(clusters: Clusters, names: list[int]) -> dict[int, tuple]:
        label = [*names, -1]
        return {
            names[row]: (
                label[clusters.survivor[row]],
                label[clusters.twin[row]],
                label[clusters.partner[row]],
                clusters.similarity[row],
            )
            for row in ranks
        }

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minhash, "MAX_BUCKET", limit)
        straight = clusters_of(texts, ranks)
        shuffled = clusters_of([texts[i] for i in order], order, threads=2)
    assert described(straight, ranks) == described(shuffled, order)


def test_equal_comparison_texts_are_twins_whatever_their_width_and_spacing() -> None:
    texts = [
        "東京 ＡＢＣ ガイド",
        "東京\u3000abc ｶﾞｲﾄﾞ\n",
        "東京abcガイドではない何か!",
        "",
        "\u3000\n",
        "あ",
        "い",
        "あ",
    ]
    clusters = clusters_of(texts)
    assert clusters.twin.tolist() == [0, 0, 2, 3, 3, 5, 6, 5]
    assert clusters.survivor.tolist() == [0, 0, 2, 3, 3, 5, 6, 5]


def test_without_exact_equal_texts_are_found_as_pairs_of_similarity_one() -> None:
    clusters = clusters_of(["同じ文書が二つあります", "違う文書はここにある", "同じ文書が二つあります"], exact=False)
    assert clusters.twin.tolist() == [0, 1, 2]
    assert clusters.survivor.tolist() == [0, 1, 0]
    assert clusters.similarity.tolist() == [1.0, 0.0, 1.0]


def test_chains_form_one_cluster(prose: Callable[[int, int], str]) -> None:
    text = prose(6, 400)
    chain = [text[shift : shift + 300] for shift in (0, 25, 50, 75)]
    assert plain_jaccard(chain[0], chain[1]) >= 0.8 > plain_jaccard(chain[0], chain[3])
    assert clusters_of(chain).survivor.tolist() == [0, 0, 0, 0]


def test_two_texts_of_five_megabytes_are_compared(hard_texts: dict[str, str]) -> None:
    long = hard_texts["five megabytes in one line"]
    clusters = clusters_of([long, "短い文書", long + "別の終わり方をする"])
    assert clusters.survivor.tolist() == [0, 1, 0]


def test_no_documents_have_no_clusters() -> None:
    assert len(clusters_of([]).survivor) == 0


def test_bands_times_rows_must_be_permutations() -> None:
    with pytest.raises(ValidationError, match="bands 20 x rows 12 is not permutations 256"):
        FuzzyConfig(bands=20, rows=12)
