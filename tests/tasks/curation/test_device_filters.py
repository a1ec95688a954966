"""The stage filter with scores by a device: every score, and every byte, is that of the local engine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.artifacts import Corpus, RawCorpus
from data_contracts.errors import MissingPackage
from tasks.acquire import sample
from tasks.acquire.config import LocalSource
from tasks.curation.config import FilterConfig
from tasks.curation.engines import device_filtering, device_scores
from tasks.curation.engines.device_language import DeviceRowSums
from tasks.curation.engines.device_scores import SCORES, DeviceScores
from tasks.curation.filters import (
    CompressionRatio,
    DuplicateLines,
    DuplicateParagraphs,
    EllipsisLines,
    EmojiRatio,
    HiraganaRatio,
    KanjiRatio,
    KatakanaRatio,
    Language,
    LatinRatio,
    Length,
    ListRatio,
    MaskPersonalData,
    RemoveBoilerplateLines,
    Repetition,
    SentenceEndRatio,
    SymbolRatio,
    TopNgram,
    UrlDensity,
    WikipediaLeftovers,
    default_cascade,
)
from tasks.curation.filters.base import Step
from tasks.curation.language_lines import Lines
from tasks.curation.language_probabilities import Classifier, RowSums, language_probabilities, sum_rows
from tasks.curation.presets import PRESETS
from tasks.stages import ACQUIRE, FILTER

ROOT = Path(__file__).parents[3]
CORPUS = ROOT.parent / "shared" / "corpus"
SET_PHRASE = "この行はどの文書にも立っているきまり文句です。"
STEPS: tuple[Step, ...] = (
    Length(),
    SymbolRatio(),
    HiraganaRatio(),
    KatakanaRatio(),
    KanjiRatio(),
    LatinRatio(),
    EmojiRatio(),
    UrlDensity(),
    SentenceEndRatio(),
    EllipsisLines(),
    ListRatio(),
    DuplicateLines(),
    DuplicateParagraphs(),
    Language(),
    Language(languages=("en", "zh", "ja"), num_windows=3, window_characters=10),
    *(Repetition(ngram_characters=n, window_characters=w) for n, w in ((1, 64), (3, 64), (10, 4096))),
    *(TopNgram(ngram_characters=n, window_characters=w) for n, w in ((1, 64), (2, 64), (4, 10_000))),
)
Filtered = Callable[..., Corpus]


@pytest.fixture(scope="module")
def scores(device) -> DeviceScores:
    return DeviceScores(device)


@pytest.fixture
def filtered(scores, run, monkeypatch: pytest.MonkeyPatch) -> Filtered:
    """`filtered(engine, config, raw)`: the sealed output on that engine, in a store of its own."""
    monkeypatch.setattr(device_filtering, "scores_by_device", lambda: scores)
    return lambda engine, config, raw: run(FILTER, config, engine=engine, raw=raw)


def check_scores(scores: DeviceScores, texts: list[str]) -> None:
    column = pa.array(texts, pa.string())
    found = scores(STEPS, column)
    assert list(found) == list(range(len(STEPS)))
    for place, step in enumerate(STEPS):
        expected = step.scores(column)  # pyright: ignore[reportAttributeAccessIssue] - all are filters
        assert found[place].dtype == np.float64
        unequal = np.flatnonzero(found[place] != expected)
        assert not len(unequal), f"{step.filter}: {texts[unequal[0]]!r}"


def check_bytes(filtered: Filtered, config: FilterConfig, raw: RawCorpus) -> dict[str, Any]:
    """Counts of the stage, which both engines share with all bytes."""
    found, expected = filtered("cudf", config, raw), filtered("local", config, raw)
    assert found.digest == expected.digest
    assert found.manifest.files == expected.manifest.files
    assert found.manifest.summary == expected.manifest.summary
    assert (found.manifest.engine, expected.manifest.engine) == ("cudf", "local")
    return found.manifest.summary.counts


SIGNS = "。 … ... ・・・ 」 - １２） 3.14 |a|b| 😀 ☀ \ufe0f \ufe0e \u200d \u20e3 1 \U0001f3fd"
WORDS = "the </s> __label__ __label__x NHK a\0b ПРИВЕТ 東京"
ADDRESSES = "https://x.jp/ www. a.b@c.jp @ ("
LINES = ["同じ行\n", "\n", "\n\n", "\t", "\u3000", " "]
PIECES = [*SIGNS.split(" "), *WORDS.split(" "), *ADDRESSES.split(" "), *LINES]
ANY_TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30).map("".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(ANY_TEXT, max_size=6))
def test_every_score_is_that_of_the_local_engine(scores, texts) -> None:
    check_scores(scores, [text.encode("utf-8", "ignore").decode() for text in texts])


def test_scores_of_hard_texts_are_those_of_the_local_engine(scores, hard_texts, prose) -> None:
    texts = [text for name, text in hard_texts.items() if name != "empty"]
    check_scores(
        scores, ["", *texts, *(prose(n, 200 * n) for n in range(20)), "☀\u200d☀\ufe0f\u200d☀" * 50, "あ" * 9000]
    )


def test_rows_of_the_language_model_add_up_to_the_same_bits(device, hard_texts, prose) -> None:
    ours: list[RowSums] = []
    on_device = DeviceRowSums(device, Lock())

    def both(lines: Lines, classifier: Classifier) -> RowSums:
        ours.append(on_device(lines, classifier))
        ours.append(sum_rows(lines, classifier))
        return ours[-1]

    texts = [*hard_texts.values(), *(prose(n, 80 * n) for n in range(20))]
    language_probabilities(pa.array(texts), ["ja"], 16, 25, both)
    found, expected = ours
    assert np.array_equal(found.num_rows, expected.num_rows) and expected.num_rows.max() > 200
    assert found.sums.tobytes() == expected.sums.tobytes()


def test_threads_take_turns_on_the_device(scores, prose) -> None:
    texts = [pa.array([prose(100 * n + m, 200) for m in range(20)]) for n in range(6)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(partial(scores, STEPS), texts))
    for column, found in zip(texts, together, strict=True):
        assert all(np.array_equal(found[place], one) for place, one in scores(STEPS, column).items())


def test_scores_of_a_slice_are_its_own(scores, prose) -> None:
    texts = [prose(n, 300) for n in range(5)]
    whole = pa.array(texts)
    for place, found in scores(STEPS, whole.slice(1, 3)).items():
        assert np.array_equal(found, scores(STEPS, whole)[place][1:4])


def test_portions_and_long_documents_change_no_score(scores, prose, monkeypatch) -> None:
    monkeypatch.setattr(device_scores, "PORTION_BYTES", 3000)
    monkeypatch.setattr(device_scores, "LONGEST_BYTES", 4000)
    check_scores(scores, [prose(n, 250 * (n % 8)) for n in range(40)])


def test_texts_are_scored_up_to_the_step_that_may_rewrite_them(scores) -> None:
    texts = pa.array(["東京は日本の首都です。"])
    cascade = [SymbolRatio(), CompressionRatio(), Length(), WikipediaLeftovers(), HiraganaRatio()]
    assert list(scores(cascade, texts)) == [0, 2]
    assert scores(cascade[3:], texts) == {}
    assert list(scores(cascade[4:], texts)) == [0]


def test_all_scores_of_a_device_are_tested() -> None:
    assert {step.filter for step in STEPS} == set(SCORES)


@pytest.fixture(scope="module")
def mixed(seal_raw, hard_texts) -> RawCorpus:
    """The sample, with mail addresses and a line that all share, and hard texts."""
    sampled = [(one.id, f"{one.text}\n{SET_PHRASE}") for one in sample.generate(400, seed=7).documents()]
    mails = [
        (f"mail-{n}", f"{text}\n連絡先は taro{n}@example.org です。") for n, text in enumerate(hard_texts.values())
    ]
    hard = list(hard_texts.items())
    return seal_raw(
        {
            "train-00000": sampled[:300],
            "train-00001": sampled[300:],
            "train-00900": mails,
            "train-00901": [],
            "train-00902": hard,
            "train-00903": [("x", "桜")],
        }
    )


def test_every_byte_of_a_cascade_with_edits_is_that_of_the_local_engine(filtered, mixed) -> None:
    edits = (WikipediaLeftovers(), *default_cascade(), RemoveBoilerplateLines())
    config = FilterConfig(cascade=(MaskPersonalData(), *edits, ListRatio(), UrlDensity(max_ratio=0.01), TopNgram()))
    counts = check_bytes(filtered, config, mixed)
    assert counts["num_documents_edited"] > 300 < counts["num_documents_kept"]
    assert counts["removed_by_length"] and counts["removed_by_language"] and counts["removed_by_repetition"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_byte_of_a_preset_is_that_of_the_local_engine(filtered, mixed, preset) -> None:
    assert check_bytes(filtered, FilterConfig(preset=preset), mixed)["num_documents_removed"] > 40


def test_a_corpus_without_documents_passes(filtered, seal_raw) -> None:
    check_bytes(filtered, FilterConfig(), seal_raw({"train-00000": []}))


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no corpus at {CORPUS}")
def test_the_real_corpus_makes_the_bytes_of_the_local_engine(filtered, run) -> None:
    raw = run(ACQUIRE, LocalSource(path=CORPUS), workers=2)
    assert check_bytes(filtered, FilterConfig(preset="web"), raw)["num_documents_in"] > 3_700


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_without_its_packages_the_engine_names_the_command(run, mixed) -> None:
    with pytest.raises(MissingPackage, match=r"tsuzuki\[gpu\]"):
        run(FILTER, FilterConfig(), engine="cudf", raw=mixed)
