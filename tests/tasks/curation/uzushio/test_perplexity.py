"""KenLM filters: sentences, means and errors everywhere; scores where kenlm and a Sudachi dictionary are installed."""

import importlib.util

import pytest

from data_contracts.errors import MissingPackage
from tasks.curation.uzushio.perplexity import KenLMDocAvgPerplexity, KenLMParagraphPerplexity
from tasks.curation.uzushio.word_scores import sentences, trimmed_mean

INSTALLED = all(importlib.util.find_spec(name) for name in ("kenlm", "sudachipy", "sudachidict_core"))

# Unigrams and one bigram with back-off, log10: <s> 猫 is likelier than 猫 alone.
ARPA = """\\data\\
ngram 1=5
ngram 2=1

\\1-grams:
-4.0\t<unk>
-1.0\t<s>\t-0.5
-1.0\t</s>
-2.0\t猫\t0.0
-3.0\t犬\t0.0

\\2-grams:
-0.25\t<s> 猫

\\end\\
"""


@pytest.fixture
def arpa(tmp_path):
    path = tmp_path / "tiny.arpa"
    path.write_text(ARPA, encoding="utf-8")
    return path


def test_sentences_end_behind_their_marks_and_where_they_grow_too_long() -> None:
    text = "一つ目。二つ目、三つ目！\n四つ目? 五つ目"
    assert list(sentences(text)) == ["一つ目。", "二つ目、", "三つ目！", "\n", "四つ目?", " 五つ目"]
    assert list(sentences("")) == []
    long = "𠮷" * 10_000 + "。"
    pieces = list(sentences(long))
    assert "".join(pieces) == long
    assert [len(piece.encode("utf-16-le")) // 2 for piece in pieces] == [16_382, 3619]
    assert max(len(piece.encode()) for piece in sentences("あ" * 40_000)) == 49_149


def test_outliers_are_left_out_at_both_ends() -> None:
    logs = [float(-n) for n in range(10)]
    assert trimmed_mean(logs, 0.0) == trimmed_mean(logs, 0.0009) == -4.5
    assert trimmed_mean([*logs, -1000.0, 500.0], 0.2) == -4.5
    assert trimmed_mean([-3.0], 0.9) == -3.0
    assert trimmed_mean([], 0.1) == 0.0


@pytest.mark.skipif(importlib.util.find_spec("sudachipy") is not None, reason="sudachipy is installed")
def test_a_missing_package_is_named_with_its_extra(judged, arpa) -> None:
    with pytest.raises(MissingPackage) as error:
        judged([{"name": "KenLMDocAvgPerplexity", "kenlm": str(arpa)}], {"a": "猫"})
    assert "sudachipy" in str(error.value) and "pip install 'tsuzuki[sudachi]'" in str(error.value)


def test_model_and_dictionary_are_outside_files(arpa, tmp_path) -> None:
    stage = KenLMParagraphPerplexity(kenlm=arpa, sudachi=tmp_path / "system.dic")
    assert stage.outside_files() == {"kenlm": arpa, "sudachi": tmp_path / "system.dic"}
    assert stage.outliers == 0.02 and KenLMDocAvgPerplexity(kenlm=arpa).outliers == 0


needs_models = pytest.mark.skipif(not INSTALLED, reason="kenlm, sudachipy or sudachidict_core is not installed")


@needs_models
def test_words_are_scored_after_those_before_them_in_their_sentence(documents_of, arpa) -> None:
    import numpy as np

    documents = documents_of("猫", "犬", "猫犬", "猫\n猫", "\x02猫\x03 ", "", "駱駝")
    scores = KenLMDocAvgPerplexity(kenlm=arpa).paragraph_scores(documents, np.ones(7, bool))
    # 犬 at the start backs off: -0.5 - 3; after 猫 it does not: -3.
    expected = [-0.25, -3.5, (-0.25 - 3) / 2, -0.25, -0.25, 0, -4.5]
    assert scores.tolist() == pytest.approx(expected, abs=1e-6)


@needs_models
def test_all_sentences_count_or_the_last_alone_as_upstream(documents_of, score_of, arpa) -> None:
    text = "猫\n犬"
    assert score_of(KenLMDocAvgPerplexity(kenlm=arpa), text) == pytest.approx([10 ** ((0.25 + 3.5) / 2)])
    assert score_of(KenLMDocAvgPerplexity(kenlm=arpa, as_upstream=True), text) == pytest.approx([10**3.5])
    two = "猫\n\n犬犬犬"
    value = (1 * 10**0.25 + 3 * 10 ** ((3.5 + 3 + 3) / 3)) / 4
    assert score_of(KenLMDocAvgPerplexity(kenlm=arpa), two) == pytest.approx([value])


@needs_models
def test_runs_of_paragraphs_of_high_perplexity_go(judged, arpa) -> None:
    stage = {"name": "KenLMParagraphPerplexity", "kenlm": str(arpa), "count": 2, "threshold": 1e3}
    found = judged([stage], {"a": "猫\n\n犬\n\n犬\n\n猫\n\n犬\n\n猫", "b": "猫"})
    assert found.texts == {"a": "猫\n\n猫\n\n犬\n\n猫", "b": "猫"}
    bounds = {"name": "KenLMDocAvgPerplexity", "kenlm": str(arpa), "low": 1.5, "high": 100}
    found = judged([bounds], {"a": "猫", "b": "犬", "c": ""})
    assert found.rejected["b"][1:] == (pytest.approx(10**3.5), 100)
    assert found.rejected["c"][1:] == (0, 1.5)
