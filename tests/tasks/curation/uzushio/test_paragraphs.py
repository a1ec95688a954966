"""Documents cut into paragraphs, lengths in UTF-16 units, cleaning of texts and how they go out."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.curation.uzushio.cleaning import clean_text, clean_texts, comparison_text, comparison_texts


def test_documents_are_cut_at_each_blank_line_and_paths_stand_before_u001c(documents_of) -> None:
    documents = documents_of("一\n\nbody>p.x\x1c二\n続き\n\n\n\n三", "", "\n\n")
    assert documents.bounds.tolist() == [0, 4, 5, 7]
    assert documents.texts.to_pylist() == ["一", "二\n続き", "", "三", "", "", ""]
    assert documents.paths.to_pylist() == ["", "body>p.x", "", "", "", "", ""]
    assert documents.stored(0) == "一\n\nbody>p.x\x1c二\n続き\n\n\n\n三"


def test_lengths_are_utf16_units_with_markers_spaces_and_line_ends(documents_of) -> None:
    documents = documents_of("𠮷野家\n😀 \x02あ\x03\n\nー")
    assert documents.units.all.tolist() == [11, 1]
    assert documents.total(documents.units.all).tolist() == [12]
    assert documents.units.markers.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  あ \t い\u3000", "あ い"),
        ("\u3000あ\u3000い\n\n \u3000\nう", "あ\u3000い\nう"),
        ("あ\x02\x03い", "あい"),
        ("あ\x02 \t\x03い", "あい"),
        ("\x02見出し\n二行目\u00a0\x03の後", "見出し 二行目 の後"),
        ("\x02開いたまま\n終わらない", "開いたまま 終わらない"),
        ("\x02一\x02二\x03三\x03", "一 二三"),
        ("a\u00a0\u00a0b\x00\x01c", "a b c"),
        ("\u2003両端\u2003", "両端"),
        ("\u00a0", ""),
        ("", ""),
    ],
)
def test_cleaning_follows_the_four_steps(text, expected) -> None:
    assert clean_text(text) == expected
    assert clean_texts(pa.array(["そのまま", text])).to_pylist() == ["そのまま", expected]


def test_for_comparison_markers_go_first_so_line_ends_in_links_stay() -> None:
    assert comparison_text("\x02一\n二\x03") == "一\n二"
    assert clean_text("\x02一\n二\x03") == "一 二"


ODD = st.text(st.sampled_from([*"あA \n\t\x00\x01\x02\x03\x1f\x1c\u00a0\u3000\u2003\u2007\u2028\x85é"]), max_size=12)


@given(st.lists(ODD, max_size=6))
def test_texts_that_are_passed_over_are_those_that_cleaning_leaves_alone(texts) -> None:
    column = pa.array(texts, pa.string())
    assert clean_texts(column).to_pylist() == [clean_text(text) for text in texts]
    assert comparison_texts(column).to_pylist() == [comparison_text(text) for text in texts]


@given(ODD)
def test_lines_are_cleaned_as_by_a_plain_reading(text) -> None:
    lines = []
    for line in re.sub("[\x02\x03]", "", text).split("\n"):
        line = re.sub("[\x00\x01\x04-\x20\xa0]+", " ", line)
        line = line.strip(" \u2003\u2028\u3000")
        if any(c > "\x20" and c != "\u3000" for c in line):
            lines.append(line)
    assert comparison_text(text) == "\n".join(lines)


def test_rendering_joins_alive_cleaned_paragraphs(documents_of) -> None:
    documents = documents_of("p\x1c一 \n\n二\n\n\x02三\x03", "四")
    after = documents.without(np.array([False, True, False, False]))
    assert after.rendered().to_pylist() == ["一\n\n三", "四"]
    assert after.stored(0) == "p\x1c一 \n\n\x02三\x03"
