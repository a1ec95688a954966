"""Each filter's score against a definition written in plain Python, on hard text."""

import math
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tasks.curation.cascade import judge
from tasks.curation.characters import EXTRA_SYMBOLS, PROSE_SYMBOLS
from tasks.curation.filters import FilterSpec, default_cascade
from tasks.curation.filters.base import KEPT, Batch, Filter
from tasks.curation.filters.duplicate_lines import DuplicateLines
from tasks.curation.filters.hiragana_ratio import HiraganaRatio
from tasks.curation.filters.language import Language
from tasks.curation.filters.length import Length
from tasks.curation.filters.repetition import Repetition
from tasks.curation.filters.symbol_ratio import SymbolRatio

TEXTS = st.lists(
    st.text(st.sampled_from([*"あいがアｱ漢A1+😀★※～ー。\u3099 \n\t\u3000"]), max_size=60) | st.text(), max_size=6
)


def visible(text: str) -> str:
    return "".join(text.split())


def is_symbol(character: str) -> bool:
    category = unicodedata.category(character)
    if character in PROSE_SYMBOLS or 0x3040 <= ord(character) <= 0x309F:
        return False
    return category[0] == "S" or category in ("Co", "Cn") or character in EXTRA_SYMBOLS or ord(character) >= 0x40000


def share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def plain_repetition(text: str, ngram: int, window: int) -> float:
    text, repeated, total = visible(text), 0, 0
    for start in range(0, len(text), window):
        piece = text[start : start + window]
        grams = [piece[i : i + ngram] for i in range(len(piece) - ngram + 1)]
        total += len(grams)
        repeated += len(grams) - len(set(grams))
    return share(repeated, total)


def plain_duplicate_lines(text: str) -> float:
    lines = [line for part in text.split("\n") if (line := part.strip(" \t"))]
    sizes = [len(line.encode()) for line in lines]
    again = [size for index, size in enumerate(sizes) if lines[index] in lines[:index]]
    return share(sum(again), sum(sizes))


PLAIN = [
    (Length(), len),
    (HiraganaRatio(), lambda t: share(sum("\u3040" <= c <= "\u309f" for c in t), len(visible(t)))),
    (SymbolRatio(), lambda t: share(sum(map(is_symbol, visible(t))), len(visible(t)))),
    (Repetition(ngram_characters=3), lambda t: plain_repetition(t, 3, 4096)),
    (Repetition(ngram_characters=2, window_characters=64), lambda t: plain_repetition(t, 2, 64)),
    (DuplicateLines(), plain_duplicate_lines),
]


@pytest.mark.parametrize(("spec", "plain"), PLAIN, ids=lambda value: getattr(value, "filter", ""))
def test_score_equals_its_definition(spec: Filter, plain, hard_texts: dict[str, str]) -> None:
    @given(TEXTS)
    def equal(texts: list[str]) -> None:
        np.testing.assert_allclose(spec.scores(pa.array(texts, pa.string())), [plain(t) for t in texts], rtol=1e-12)

    equal()
    hard = [text[:20_000] for text in hard_texts.values()]
    np.testing.assert_allclose(spec.scores(pa.array(hard)), [plain(t) for t in hard], rtol=1e-12)


@pytest.mark.parametrize("spec", default_cascade(), ids=lambda spec: spec.filter)
def test_hard_texts_have_finite_scores_that_do_not_depend_on_their_neighbours(
    spec: Filter, hard_texts: dict[str, str]
) -> None:
    texts = pa.array(hard_texts.values(), pa.large_string())
    scores = spec.scores(texts)
    assert scores.dtype == np.float64 and np.isfinite(scores).all()
    alone = [spec.scores(texts.slice(index, 1))[0] for index in range(len(texts))]
    assert scores.tolist() == alone
    assert len(spec.scores(pa.array([], pa.string()))) == 0


ENGLISH = "The library was founded in 1897 and moved to its present building in the park. " * 12
CHINESE = "圖書館成立於一八九七年，後來遷至公園內的現址，收藏了大量歷史文獻與地方資料。" * 12
KOREAN = "도서관은 1897년에 설립되었으며 이후 공원 안의 현재 건물로 이전하였다. " * 12


def test_language_tells_japanese_from_others_even_in_long_documents(prose) -> None:
    japanese = prose(1, 5000)
    code = "for (int i = 0; i < n; i++) { sum += values[i]; }\n" * 2
    texts = [japanese, japanese[:120], code + japanese, ENGLISH, CHINESE, KOREAN, japanese[:300] + ENGLISH * 10, ""]
    found = Language().scores(pa.array(texts)) >= 0.8
    assert found.tolist() == [True, True, True, False, False, False, False, False]


def test_languages_of_a_list_are_summed() -> None:
    mixed = "東京は日本の首都である。Tokyo is the capital of Japan and its largest city."
    texts = pa.array([mixed, ENGLISH])
    both = Language(languages=("ja", "en")).scores(texts)
    assert both[1] > 0.9
    assert both[0] >= Language().scores(texts)[0]


def test_first_filter_that_rejects_names_the_reason_and_bounds_are_inclusive(prose) -> None:
    cascade = (Length(min_characters=5, max_characters=10), HiraganaRatio(min_ratio=0.5), SymbolRatio(max_ratio=0.1))
    texts = pa.array(
        ["あい", "あいうえお", "漢字漢字漢字", "あいうえおあいうえお", "あ" * 11, "あいう漢字漢", "★★★漢字"]
    )
    verdict = judge(cascade, Batch(pa.array([str(n) for n in range(len(texts))]), texts))
    assert verdict.rejected_by.tolist() == [0, KEPT, 1, KEPT, 0, KEPT, 1]
    assert verdict.threshold[[0, 2, 4]].tolist() == [5, 0.5, 10]
    assert verdict.score[[0, 2, 4]].tolist() == [2, 0, 11]
    assert math.isnan(verdict.score[1])


def test_reason_holds_figure_and_bound() -> None:
    spec = Length(min_characters=5, max_characters=10)
    assert spec.reason("length", 2, 5) == "length: 2 characters, below the minimum of 5"
    assert spec.reason("length", 11, 10) == "length: 11 characters, above the maximum of 10"


@pytest.mark.parametrize(
    "spec",
    [
        {"filter": "lenght"},
        {"filter": "length", "min_charakters": 3},
        {"filter": "length", "min_characters": 9, "max_characters": 8},
        {"filter": "hiragana_ratio", "min_ratio": 0.9, "max_ratio": 0.1},
        {"filter": "language", "languages": []},
    ],
)
def test_wrong_specs_are_refused(spec: dict) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(FilterSpec).validate_python(spec)


def test_workshop_cascade_has_an_upper_length() -> None:
    assert default_cascade(max_characters=4096)[0].bounds == (100, 4096)
