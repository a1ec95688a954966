"""Comparison form, n-gram sets, candidates and clusters against their definitions in plain Python."""

import random
import tempfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks import parallel
from tasks.curation import candidates, clusters
from tasks.curation.clusters import Clusters, find_clusters
from tasks.curation.components import connect, roots_of
from tasks.curation.config import FuzzyConfig
from tasks.curation.folding import fold, fold_text
from tasks.curation.minhash import gram_sets, jaccards
from tasks.curation.scanning import fingerprint
from tasks.curation.spool import Spool, SpoolWriter
from tasks.runtime import Runtime

FUZZY = FuzzyConfig()
SMALL_TEXTS = st.lists(st.text(st.sampled_from("あいうＡa ガｶﾞ㈱"), max_size=14), max_size=10)


class Found(NamedTuple):
    """Clusters, and their edges read back: (edges, 2) documents, sorted in each, and (edges,) similarities."""

    clusters: Clusters
    pairs: np.ndarray
    jaccard: np.ndarray


def column(texts: list[str], size: int = 5) -> pa.ChunkedArray:
    """A text column in chunks, as it comes from row groups."""
    return pa.chunked_array([texts[i : i + size] for i in range(0, len(texts), size)], pa.string())


def grams(text: str, n: int = 5) -> set[str]:
    text = fold_text(text)
    return {text[i : i + n] for i in range(max(1, len(text) - n + 1))}


def plain_jaccard(a: str, b: str, n: int = 5) -> float:
    first, second = grams(a, n), grams(b, n)
    return len(first & second) / len(first | second)


def spooled(texts: list[str], config: FuzzyConfig, folder: Path) -> Spool:
    """The texts as a scan leaves them, in parts of a few."""
    parts = []
    for number, chunk in enumerate(column(texts, 100).chunks):
        writer = SpoolWriter(folder, f"{number:03d}")
        ids = pa.array([str(100 * number + n) for n in range(len(chunk))])
        writer.add(ids, chunk, fingerprint(fold(chunk), config))
        writer.close()
        parts += writer.parts
    return Spool.of(folder, parts)


def clusters_of(
    texts: list[str],
    rank: list[int] | None = None,
    *,
    exact: bool = True,
    workers: int = 1,
    config: FuzzyConfig = FUZZY,
) -> Found:
    order = np.array(rank if rank is not None else range(len(texts)), dtype=np.int64)
    with tempfile.TemporaryDirectory() as name:
        spool = spooled(texts, config, Path(name))
        found = find_clusters(
            spool,
            spool.lengths(),
            order,
            exact=exact,
            fuzzy=config,
            runtime=Runtime(store=Path(name), workers=workers),
            folder=Path(name) / "candidates",
        )
        edges = np.concatenate([np.zeros(0, candidates.EDGE), *found.edges.portions()])
    pairs = np.sort(np.stack((edges["first"], edges["second"]), axis=1), axis=1)
    return Found(found, pairs, edges["jaccard"])


def pairs_of(texts: list[str], config: FuzzyConfig = FUZZY) -> Found:
    return clusters_of(texts, exact=False, config=config)


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
    found = {tuple(pair): score for pair, score in zip(edges.pairs.tolist(), edges.jaccard.tolist(), strict=True)}
    assert 100 < len(near) < 1000
    assert found.items() <= near.items(), "false positives, or a similarity that is not the exact one"
    assert len(found) >= 0.99 * len(near)


def test_expected_recall_is_the_measured_one(prose: Callable[[int, int], str]) -> None:
    generator = random.Random(8)
    config = FuzzyConfig(bands=8, rows=8, permutations=64)
    similar = [(text, copy) for n in range(300) for text in [prose(n, 250)] for copy in variants(generator, text, 1)]
    texts = [text for pair in similar for text in pair]
    scores = [plain_jaccard(*pair) for pair in similar]
    hits = {tuple(pair) for pair in pairs_of(texts, config).pairs.tolist()}
    wanted = [n for n, score in enumerate(scores) if score >= 0.8]
    expected = sum(config.recall_at(scores[n]) for n in wanted)
    found = sum((2 * n, 2 * n + 1) in hits for n in wanted)
    assert abs(found - expected) < 4 * np.sqrt(len(wanted)) / 2


@pytest.mark.parametrize(("limit", "block_characters"), [(2, 4 << 20), (5, 4 << 20), (2, 1000), (5, 3000)])
def test_big_buckets_give_the_same_components(
    families: list[str], limit: int, block_characters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = clusters_of(families)
    monkeypatch.setattr(candidates, "MAX_BUCKET", limit)
    monkeypatch.setattr(clusters, "BLOCK_CHARACTERS", block_characters)
    reduced = clusters_of(families)
    assert reduced.clusters.survivor.tolist() == whole.clusters.survivor.tolist()
    assert set(map(tuple, reduced.pairs)) <= set(map(tuple, whole.pairs))
    assert (reduced.jaccard >= 0.8).all()


def plainly_connected(texts: list[str], threshold: float) -> list[tuple[int, int]]:
    """Each document compared with all before it, in order, unless they are connected already."""
    label, edges = list(range(len(texts))), []
    for second in range(len(texts)):
        for first in range(second):
            if label[first] != label[second] and plain_jaccard(texts[first], texts[second]) >= threshold:
                label = [label[first] if name == label[second] else name for name in label]
                edges.append((first, second))
    return edges


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([0.3, 0.5, 0.8, 0.9, 1.0]), st.booleans())
def test_what_a_bucket_leaves_out_never_changes_an_edge(
    families: list[str], generator: random.Random, threshold: float, common: bool
) -> None:
    texts = [*generator.sample(families, 30), "", "短い", "短い文"]
    texts = [text[: generator.randint(10, 300)] if generator.random() < 0.3 else text for text in texts]
    texts = [("どの文書にもある長い前置き。" * 8 if common else "") + text for text in texts]
    sets, bucket, parents = gram_sets(fold(column(texts)), 5), np.arange(len(texts)) + 7, np.arange(len(texts) + 7)
    pairs, scores, num_compared = connect(sets, bucket, 0, parents, threshold)
    expected = plainly_connected(texts, threshold)
    assert [tuple(pair) for pair in (pairs - 7).tolist()] == expected
    assert scores.tolist() == [plain_jaccard(texts[i], texts[j]) for i, j in expected]
    assert len(expected) <= num_compared <= len(texts) * (len(texts) - 1) // 2
    assert len(np.unique(roots_of(parents, bucket))) == len(texts) - len(expected)


def test_a_thousand_near_copies_cost_about_a_thousand_comparisons(prose: Callable[[int, int], str]) -> None:
    text = prose(4, 400)
    found = clusters_of([f"{text}{number:04d}" for number in range(1000)] + [prose(n, 400) for n in range(10, 30)])
    assert (found.clusters.survivor[:1000] == 0).all()
    assert found.clusters.survivor[1000:].tolist() == list(range(1000, 1020))
    assert found.clusters.edges.num_compared < 3000


def test_documents_that_share_only_a_preamble_cost_few_comparisons(prose: Callable[[int, int], str]) -> None:
    texts = [prose(0, 200) + prose(100 + number, 200) for number in range(600)]
    sets, parents = gram_sets(fold(column(texts)), 5), np.arange(600)
    pairs, _, num_compared = connect(sets, np.arange(600), 0, parents, 0.8)
    assert len(pairs) == 0 and num_compared == 0


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([2, 64]))
def test_order_does_not_change_clusters_or_best_edges(
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
        patch.setattr(candidates, "MAX_BUCKET", limit)
        straight = clusters_of(texts, ranks)
        shuffled = clusters_of([texts[i] for i in order], order)
    assert described(straight.clusters, ranks) == described(shuffled.clusters, order)


def test_processes_little_memory_and_small_runs_change_nothing(
    families: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = clusters_of(families)
    for name in ("CELL_DOCUMENTS", "RUN_CODES", "BATCH_PAIRS"):
        monkeypatch.setattr(candidates, name, 7)
    alone = clusters_of(families)
    monkeypatch.undo()
    threads = clusters_of(families, workers=2)
    monkeypatch.setattr(parallel, "INLINE_BYTES", 0)
    monkeypatch.setattr(parallel, "THREADED_BYTES", 0)
    processes = clusters_of(families, workers=2)
    for other in (alone, threads, processes):
        assert other.clusters.survivor.tolist() == whole.clusters.survivor.tolist()
        assert other.pairs.tolist() == whole.pairs.tolist() and other.jaccard.tolist() == whole.jaccard.tolist()
        assert other.clusters.edges.num_compared == whole.clusters.edges.num_compared


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
    found = clusters_of(texts).clusters
    assert found.twin.tolist() == [0, 0, 2, 3, 3, 5, 6, 5]
    assert found.survivor.tolist() == [0, 0, 2, 3, 3, 5, 6, 5]


def test_without_exact_equal_texts_are_found_as_pairs_of_similarity_one() -> None:
    texts = ["同じ文書が二つあります", "違う文書はここにある", "同じ文書が二つあります"]
    found = clusters_of(texts, exact=False).clusters
    assert found.twin.tolist() == [0, 1, 2]
    assert found.survivor.tolist() == [0, 1, 0]
    assert found.similarity.tolist() == [1.0, 0.0, 1.0]


def test_chains_form_one_cluster(prose: Callable[[int, int], str]) -> None:
    text = prose(6, 400)
    chain = [text[shift : shift + 300] for shift in (0, 25, 50, 75)]
    assert plain_jaccard(chain[0], chain[1]) >= 0.8 > plain_jaccard(chain[0], chain[3])
    assert clusters_of(chain).clusters.survivor.tolist() == [0, 0, 0, 0]


def test_two_texts_of_five_megabytes_are_compared(hard_texts: dict[str, str]) -> None:
    long = hard_texts["five megabytes in one line"]
    found = clusters_of([long, "短い文書", long + "別の終わり方をする"]).clusters
    assert found.survivor.tolist() == [0, 1, 0]


def test_no_documents_have_no_clusters() -> None:
    assert len(clusters_of([]).clusters.survivor) == 0


def test_bands_times_rows_must_be_permutations() -> None:
    with pytest.raises(ValidationError, match="bands 20 x rows 12 is not permutations 256"):
        FuzzyConfig(bands=20, rows=12)
