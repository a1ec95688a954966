"""Each filter of paragraphs on cases by hand: what goes, what is told of it, and what differs from Uzushio."""

import numpy as np
import pytest

from tasks.curation.uzushio.frequencies import LargeFreqParagraphs
from tasks.curation.uzushio.html_paths import heading_level, is_frame, is_list_item


def gone(documents_of, near, count=3, freq=10, removed=()):
    documents = documents_of("\n\n".join(str(n) for n in range(len(near))), near=near)
    dead = np.isin(np.arange(len(near)), removed)
    marks = LargeFreqParagraphs(count=count, freq=freq).marks(documents.without(dead), np.ones(1, bool))
    return np.flatnonzero(marks).tolist()


@pytest.mark.parametrize(
    ("near", "expected"),
    [
        ([5, 15, 15, 15, 5], [1, 2, 3]),
        ([5, 5, 15, 15, 5, 5], []),
        ([15, 5, 5, 5, 5, 15], [0, 5]),
        ([15, 15, 5, 5, 5], [0, 1]),
        ([5, 15, 5, 15, 15, 15, 5], [1, 3, 4, 5]),
        ([5, 15, 5, 5, 5, 15, 15, 15, 5], [5, 6, 7]),
        ([9, 9, 9], []),
        ([10, 10], [0, 1]),
        ([10], [0]),
    ],
)
def test_runs_of_frequent_paragraphs_go_and_take_those_shortly_before(documents_of, near, expected) -> None:
    assert gone(documents_of, near) == expected


def test_removed_paragraphs_count_as_neighbours_and_are_not_removed_again(documents_of) -> None:
    assert gone(documents_of, [5, 15, 15, 15, 5], removed=[2]) == [1, 3]
    assert gone(documents_of, [5, 15, 15, 5], count=2, removed=[1]) == [2]


def test_each_copy_of_a_duplicate_paragraph_goes_and_is_told_as_an_edit(judged) -> None:
    texts = {"a": "共通の文\n\n一つだけ", "b": "共通の文\n\nもう一つ\n\n三回"}
    found = judged([{"name": "DuplicateParagraphs"}], texts, {"共通の文": 2, "三回": 3})
    assert found.texts == {"a": "一つだけ", "b": "もう一つ"} and found.rejected == {}
    label = "uzushio.1.DuplicateParagraphs"
    assert found.edits == [
        {"id": "a", "filter": label, "num_places": 1, "num_characters_removed": 6, "removed": "共通の文"},
        {"id": "b", "filter": label, "num_places": 2, "num_characters_removed": 10, "removed": "共通の文\n三回"},
    ]
    assert found.scores[label] == [4, 4]


def test_a_document_that_loses_its_last_text_is_rejected_by_that_filter_with_its_text(judged) -> None:
    stages = [{"name": "DuplicateParagraphs", "limit": 5}, {"name": "DocLength", "low": 1}]
    found = judged(stages, {"a": "共通\n\n共通", "b": "他"}, {"共通": 5})
    assert found.rejected == {"a": ("uzushio.1.DuplicateParagraphs", 0, 1)}
    assert found.texts == {"a": "共通\n\n共通", "b": "他"} and found.edits == []


def test_the_text_in_the_ledger_is_the_one_that_was_scored(judged) -> None:
    stages = [{"name": "DuplicateParagraphs"}, {"name": "DocLength", "low": 10}]
    found = judged(stages, {"a": "p\x1c共通の文\n\nli\x1c\x02短い\x03"}, {"共通の文": 2})
    assert found.rejected == {"a": ("uzushio.2.DocLength", 4, 10)}
    assert found.texts == {"a": "li\x1c\x02短い\x03"}


def test_adjacent_copies_vanish_whatever_their_paths(judged) -> None:
    found = judged(
        [{"name": "AdjacentDuplicateParagraphs"}], {"a": "p\x1c同じ\n\ndiv\x1c同じ\n\n別\n\n同じ", "b": "同じ"}
    )
    assert found.texts == {"a": "同じ\n\n別\n\n同じ", "b": "同じ"}
    assert found.edits[0]["removed"] == "同じ" and found.edits[0]["num_places"] == 1
    assert found.edits[0]["num_characters_removed"] == len("div\x1c同じ\n\n")


def test_list_items_of_one_path_become_one_paragraph_with_the_smallest_frequency(judged) -> None:
    items = [
        "ul>li\x1c一",
        "ul>li\x1c二",
        "ul.b>li\x1c三",
        "p\x1c四",
        "p\x1c五",
        "select>option\x1c六",
        "select>option\x1c七",
    ]
    text = "\n\n".join(items)
    stages = [{"name": "MergeListTag"}]
    assert judged(stages, {"a": text}).texts == {"a": "- 一\n- 二\n\n三\n\n四\n\n五\n\n- 六\n- 七"}
    later = [*stages, {"name": "DuplicateParagraphs", "limit": 3}]
    # 一 and 二 have the frequency of 二 together, 三 has its own.
    assert judged(later, {"a": text}, {"一": 9, "二": 2, "三": 9}).texts["a"].startswith("- 一\n- 二\n\n四")
    assert judged(later, {"a": text}, {"一": 9, "二": 3}).texts["a"].startswith("三")


def test_a_removed_paragraph_keeps_list_items_apart(judged) -> None:
    stages = [{"name": "DuplicateParagraphs"}, {"name": "MergeListTag"}]
    text = "li\x1c一\n\nli\x1c広告\n\nli\x1c二"
    assert judged(stages, {"a": text}, {"広告": 2}).texts == {"a": "一\n\n二"}


def test_headings_get_as_many_marks_as_the_innermost_says(judged) -> None:
    text = "body>h2.title\x1c見出し\n\nh1>h3>span\x1c小見出し\n\np\x1c文\n\nh6\x1c"
    found = judged([{"name": "MarkdownizeHeading"}], {"a": text})
    assert found.texts == {"a": "## 見出し\n\n### 小見出し\n\n文\n\n######"}
    assert found.edits[0]["num_places"] == 3 and found.edits[0]["removed"] == ""
    assert [heading_level(path) for path in ("h1>h2", "h7", "H1", "th1", "")] == [2, 0, 0, 0, 0]
    assert [is_list_item(path) for path in ("ul>li>a", "div>option.x", "ul", "link")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("path", "frame"),
    [
        ("body>nav>p", True),
        ("body>noscript", True),
        ("form#login>p", True),
        ("Nav>p", False),
        ("body>div.left-box>p", True),
        ("body>div.leftBox", True),
        ("body>div.LEFT-BOX", False),
        ("body>div#blogtitle", True),
        ("body>ul.globalMenu>li", True),
        ("body>p.my-SideBar.x", True),
        ("body>h1.logo", True),
        ("body>h2.logo", False),
        ("body>span.sidebar", False),
        ("body>div.content.main#text", False),
        ("body>div.a#pankuzu", True),
        ("", False),
    ],
)
def test_what_belongs_to_the_frame_of_a_page(path, frame) -> None:
    assert is_frame(path) is frame


def test_paragraphs_of_the_frame_go(judged) -> None:
    text = "body>nav>a\x1cホーム\n\nbody>div.main>p\x1c本文\n\nbody>footer\x1c著作権"
    found = judged([{"name": "NoContentDOM"}], {"a": text, "b": "nav ではない文"})
    assert found.texts == {"a": "本文", "b": "nav ではない文"}
    assert [(e["filter"], e["num_places"]) for e in found.edits] == [
        ("uzushio.1.NoContentDOM", 2),
        ("uzushio.text_only", 1),
    ]


def test_edits_add_up_to_what_the_texts_lost(judged, hard_texts) -> None:
    texts = {name: text for name, text in hard_texts.items() if len(text) < 10_000}
    texts |= {"html": "h1\x1c題\n\nli\x1c\x02一\x03\n\nli\x1c二\n\nnav>li\x1c広告 \n\np\x1c共通", "plain": "ただの文"}
    stages = [{"name": name} for name in ("MergeListTag", "MarkdownizeHeading", "NoContentDOM", "DuplicateParagraphs")]
    found = judged(stages, texts, {"共通": 2})
    for name, text in texts.items():
        removed = sum(edit["num_characters_removed"] for edit in found.edits if edit["id"] == name)
        assert len(text) - removed == len(found.texts[name]), name
    assert found.texts["html"] == "# 題\n\n- 一\n- 二"
    assert found.rejected == dict.fromkeys(("empty", "spaces"), ("uzushio.empty", 0, 1))
    assert found.texts["spaces"] == texts["spaces"]


def test_limits_put_large_documents_into_the_ledger_and_none_are_lost_without(judged) -> None:
    texts = {"long": "あ" * 700_000, "many": "\n\n".join(["文"] * 1000), "fits": "\n\n".join(["文"] * 999)}
    stages = [{"name": "DocLength", "low": 1}]
    assert judged(stages, texts).rejected == {}
    found = judged(stages, texts, max_document_bytes=2 << 20, max_paragraphs=1000)
    assert found.rejected == {
        "long": ("uzushio.max_document_bytes", 2_100_000, 2 << 20),
        "many": ("uzushio.max_paragraphs", 1000, 1000),
    }


def test_the_first_filter_that_rejects_names_the_label_of_repeated_ones(judged) -> None:
    stages = [{"name": "HiraganaRatio", "low": low} for low in (0.1, 0.5)]
    found = judged(stages, {"a": "漢字", "b": "漢字あ", "c": "ああ"})
    assert {name: label for name, (label, *_) in found.rejected.items()} == {
        "a": "uzushio.1.HiraganaRatio",
        "b": "uzushio.2.HiraganaRatio",
    }
    assert [len(scores) for scores in found.scores.values()] == [3, 2, 1]
