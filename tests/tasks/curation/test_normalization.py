"""Cleaning of texts: what changes, what stays, and that it is done once and for all."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.curation.config import NormalizationConfig
from tasks.curation.normalization import normalize_text, normalize_texts

DEFAULT = NormalizationConfig()
NOTHING = NormalizationConfig(
    unify_line_ends=False,
    remove_control_characters=False,
    remove_invisible=False,
    unicode_form="none",
    strip_trailing_spaces=False,
)
PIECES = st.sampled_from([*"あか\u3099ガｶﾞ㈱ＡA \t\n\r\u3000\u2028\x00\x85\ufeff\u200b\u200d\ufe0f😀", "\r\n", "\n\n\n"])
CONFIGS = st.builds(
    NormalizationConfig,
    unify_line_ends=st.booleans(),
    remove_control_characters=st.booleans(),
    remove_invisible=st.booleans(),
    unicode_form=st.sampled_from(["none", "NFC", "NFKC"]),
    strip_trailing_spaces=st.booleans(),
    max_blank_lines=st.none() | st.integers(0, 3),
)


@given(st.lists(PIECES).map("".join), CONFIGS)
def test_cleaning_twice_is_cleaning_once(text: str, config: NormalizationConfig) -> None:
    once = normalize_text(text, config)
    assert normalize_text(once, config) == once


@given(
    st.lists(st.lists(PIECES | st.characters(exclude_categories=["Cs"])).map("".join)),
    st.sampled_from([DEFAULT, NOTHING, NormalizationConfig(unicode_form="NFKC", max_blank_lines=0)]),
)
def test_a_batch_is_cleaned_as_each_of_its_texts(texts: list[str], config: NormalizationConfig) -> None:
    cleaned, changed = normalize_texts(pa.array(["", *texts], pa.string()).slice(1), config)
    assert cleaned.to_pylist() == [normalize_text(text, config) for text in texts]
    assert changed.tolist() == [a != b for a, b in zip(texts, cleaned.to_pylist(), strict=True)]


@given(st.text())
def test_text_passes_unchanged_when_everything_is_off(text: str) -> None:
    assert normalize_text(text, NOTHING) == text


@pytest.mark.parametrize(
    ("config", "before", "after"),
    [
        (DEFAULT, "一\r\n二\r三\u2028四\u2029五\x85六", "一\n二\n三\n四\n五\n六"),
        (DEFAULT, "か\u3099は\u309a", "がぱ"),
        (DEFAULT, "ｶﾞ㈱Ａ", "ｶﾞ㈱Ａ"),
        (NormalizationConfig(unicode_form="NFKC"), "ｶﾞ㈱Ａ　ﾊﾝ", "ガ(株)A ハン"),
        (DEFAULT, "\n\n　字下げ \u3000\n\n次\t\n\n", "　字下げ\n\n次"),
        (DEFAULT, "a\x00b\x07c\x1bd\te\x9ff", "abcd\tef"),
        (DEFAULT, "\ufeff見え\u200bない\u2060文\u00ad字", "見えない文字"),
        (DEFAULT, "👨‍👩‍👧❤️葛󠄀", "👨‍👩‍👧❤️葛󠄀"),
        (NormalizationConfig(max_blank_lines=1), "一\n\n\n\n二\n\n三", "一\n\n二\n\n三"),
    ],
)
def test_each_rule_does_what_its_description_says(config: NormalizationConfig, before: str, after: str) -> None:
    assert normalize_text(before, config) == after


def test_changed_documents_are_marked_and_hard_ones_take_linear_time(hard_texts: dict[str, str]) -> None:
    texts = pa.array([*hard_texts.values(), "何も変わらない。"])
    cleaned, changed = normalize_texts(texts, DEFAULT)
    assert changed.tolist() == [a != b for a, b in zip(texts.to_pylist(), cleaned.to_pylist(), strict=True)]
    assert changed[list(hard_texts).index("combining dakuten")] and not changed[-1]
