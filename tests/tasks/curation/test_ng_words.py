"""Word lists: every match of plain Python and no other, borders of runs, and the list's content as identity."""

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_contracts.errors import ConfigError
from tasks.curation.config import FilterConfig
from tasks.curation.filters.ng_words import NgWords
from tasks.curation.outside_files import outside_digests
from tasks.stage import Request
from tasks.stages import FILTER

LETTERS = st.text(st.sampled_from([*"aあアｱ漢A1😀ー か\u3099\n"]), max_size=24)
WORDS = st.lists(st.text(st.sampled_from([*"aあアA漢1😀ー"]), min_size=1, max_size=4), min_size=1, max_size=6)


def scores(step: NgWords, *texts: str) -> list[float]:
    return step.scores(pa.array(texts, pa.string())).tolist()


def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


@given(st.lists(LETTERS, max_size=5), WORDS, st.booleans())
@example(["aaaa", "アアア"], ["a", "aa", "aaa"], True)
@example(["ushers"], ["he", "she", "his", "hers"], False)
def test_matches_are_those_of_plain_python(texts: list[str], words: list[str], fold: bool) -> None:
    compared = [folded(text) if fold else text for text in texts]
    entries = dict.fromkeys(folded(word) if fold else word for word in words)
    places = [[sum(t.startswith(e, i) for i in range(len(t))) for e in entries] for t in compared]
    step = NgWords(words=tuple(words), fold=fold, whole_runs=False)
    assert scores(step, *texts) == [sum(map(bool, p)) for p in places]
    assert scores(step.model_copy(update={"mode": "occurrences"}), *texts) == [sum(p) for p in places]


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("サイン", "コサインの値", False),
        ("サイン", "サインの値とサインペン", True),
        ("サイン", "ｻｲﾝをする", True),
        ("イン", "サイン", False),
        ("ass", "a class of its own", False),
        ("ass", "ASSと書く", True),
        ("ass", "東京ass東京", True),
        ("ass", "ＡＳＳ", True),
        ("バカ", "バカだ", True),
        ("バカ", "バカンス", False),
        ("死ね", "早く死ねばよい", True),
        ("カー用品", "マイカー用品店", False),
        ("カー用品", "新しいカー用品店", True),
        ("４２", "答えは42だ", True),
        ("42", "1942年", False),
        ("straße", "STRASSE", True),
        ("が", "か\u3099", True),
        ("😀", "あ😀い", True),
        ("ห้าม", "นี่คือห้ามทำ", True),
    ],
)
def test_entries_do_not_count_inside_longer_runs(word: str, text: str, found: bool) -> None:
    assert scores(NgWords(words=(word,)), text) == [float(found)]


def test_without_folding_width_and_case_matter() -> None:
    step = NgWords(words=("サイン", "Ass"), fold=False)
    assert scores(step, "サイン", "ｻｲﾝ", "Ass", "ass") == [1, 0, 1, 0]


def test_hard_texts_and_ten_thousand_words(hard_texts) -> None:
    words = (*(f"語{number:x}" for number in range(10_000)), "\U0010ffff", "同じ行が続く文書です。\n同じ")
    step = NgWords(words=words, mode="occurrences")
    texts = pa.array([*hard_texts.values(), "語0語ff、語2710"], pa.large_string())
    found = step.scores(texts)
    assert found.dtype == np.float64 and found[-1] == 2
    assert found[list(hard_texts).index("same line again")] == 49
    assert found.tolist() == [step.scores(texts.slice(index, 1))[0] for index in range(len(texts))]
    assert len(step.scores(pa.array([], pa.string()))) == 0


def test_file_holds_one_entry_a_line(tmp_path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeff# 題\r\n  禁止語  \r\n\r\n#別\r\n二つ の語\r\n".encode())
    step = NgWords(words=("三つ", "禁止語"), words_file=path)
    assert step.entries() == ("三つ", "禁止語", "二つ の語")
    assert scores(step, "禁止語と二つ の語と題") == [2]
    path.write_text("題\n", encoding="utf-8")
    assert scores(step, "禁止語と二つ の語と題") == [2], "the file is read anew for each batch"


@pytest.mark.parametrize(
    ("content", "message"), [(b"\n# a\n", "found no entry"), ("語".encode("cp932"), "expected UTF-8")]
)
def test_useless_files_are_refused(tmp_path, content: bytes, message: str) -> None:
    (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        scores(NgWords(words_file=tmp_path / "words.txt"), "あ")


@pytest.mark.parametrize("spec", [{}, {"words": ()}, {"words": (" ",)}, {"words": ("a",), "mode": "both"}])
def test_wrong_parameters_are_refused(spec: dict) -> None:
    with pytest.raises(ValidationError):
        NgWords(**spec)


def test_content_of_the_file_is_identity_and_its_path_is_not(tmp_path, seal_raw) -> None:
    raw = seal_raw({"train-00000": []})

    def key(path) -> str:
        return Request.of(FILTER, FilterConfig(cascade=(NgWords(words_file=path),)), {"raw": raw}).key

    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("禁止語")
    second.write_text("禁止語")
    before = key(first)
    assert key(second) == before
    second.write_text("別の語")
    assert key(second) != before
    with pytest.raises(ConfigError, match=r"absent.txt.*words_file of the filter `ng_words`"):
        key(tmp_path / "absent.txt")
    assert outside_digests(FilterConfig(cascade=(NgWords(words=("a",)),))) == {}


def test_stage_removes_documents_with_listed_words(seal_raw, run, ledger, kept_ids, prose, tmp_path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# 一覧\n禁止語\nバカ\n", encoding="utf-8")
    rows = [("a", prose(1, 200)), ("b", prose(2, 200) + "禁止語とﾊﾞｶ"), ("c", prose(3, 200) + "バカンス")]
    config = FilterConfig(cascade=(NgWords(words_file=path),))
    result = run(FILTER, config, raw=seal_raw({"train-00000": rows}))
    assert kept_ids(result) == ["a", "c"]
    [row] = ledger(result)
    assert row["reason"] == "ng_words: 2 listed words, above the maximum of 0"
    assert result.manifest.inputs["cascade.0.words_file"].digest
