"""Each document filter on cases computed by hand, bounds included, and what differs from Uzushio."""

import math

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tasks.curation.uzushio.compression import CompressionRate
from tasks.curation.uzushio.frequencies import (
    DeduplicateDocuments,
    DeduplicateDocumentsPercentile,
    DuplicateDocumentsLengthWeighted,
)
from tasks.curation.uzushio.lengths import DocLength, HiraganaRatio, LinkCharRatio
from tasks.curation.uzushio.randomness import gaussian, hash_texts, random_of
from tasks.curation.uzushio.word_lists import WordInstances, WordTypes


def test_doc_length_counts_utf16_units_of_all_paragraphs_without_separators(score_of, judged) -> None:
    assert score_of(DocLength(), "あい\n\nう", "𠮷", "", "a\nb \x02\x03") == [3, 2, 0, 6]
    found = judged(
        [{"name": "DocLength", "low": 3, "high": 4}], {"a": "あい", "b": "あいう", "c": "𠮷𠮷", "d": "𠮷𠮷あ"}
    )
    assert found.rejected == {"a": ("uzushio.1.DocLength", 2, 3), "d": ("uzushio.1.DocLength", 5, 4)}


def test_hiragana_ratio_knows_the_block_alone(score_of) -> None:
    texts = ("ぁん\u3040\u309f", "カーｶﾞー", "あ漢字A", "あ\n\nい漢字𠮷", "")
    assert score_of(HiraganaRatio(), *texts) == pytest.approx([1, 0, 0.25, 2 / 6, 0], abs=1e-7)


def test_ratios_are_32_bit_so_a_score_at_the_bound_stays(judged) -> None:
    text = "あ" + "漢" * 9
    assert float(np.float32(0.1)) != 0.1
    assert judged([{"name": "HiraganaRatio", "low": 0.1}], {"a": text}).rejected == {}
    assert judged([{"name": "HiraganaRatio", "low": 0, "high": 0.1}], {"a": text}).rejected == {}
    found = judged([{"name": "HiraganaRatio", "low": 0.1}], {"a": text + "漢"}).rejected["a"]
    assert found == ("uzushio.1.HiraganaRatio", float(np.float32(1) / np.float32(11)), float(np.float32(0.1)))


def test_link_ratio_leaves_markers_out_and_begins_anew_in_each_paragraph(score_of) -> None:
    texts = ("\x02あい\x03うえ", "\x02開いたまま\n\n外", "閉じ\x03る", "\x02一\x02二\x03三", "\x02\x03", "\x02𠮷\x03あ")
    assert score_of(LinkCharRatio(), *texts) == pytest.approx([0.5, 5 / 6, 0, 2 / 3, 0, 2 / 3], abs=1e-7)


def test_compression_is_that_of_an_lz4_block_over_utf8_bytes(score_of) -> None:
    # One token and its literals: 12 bytes or fewer never hold a match.
    assert score_of(CompressionRate(low=0, high=9), "abc", "あ\n\nい") == pytest.approx([4 / 3, 7 / 6])
    # Token, 1 literal, offset, one more length byte for each 255, then a token and the 5 last literals.
    length = 1000
    match = length - 1 - 5
    size = 1 + 1 + 2 + ((match - 4 - 15) // 255 + 1) + 1 + 5
    assert score_of(CompressionRate(low=0, high=9), "a" * length) == pytest.approx([size / length])


def test_compression_looks_at_one_mebibyte_of_whole_characters(score_of) -> None:
    whole = "あ" * ((1 << 20) // 3)
    [cut] = score_of(CompressionRate(low=0, high=9), whole + "漢字" * 1000)
    content = whole.encode()
    assert len(content) == (1 << 20) - 1
    assert cut == pytest.approx(pa.Codec("lz4_raw").compress(content).size / len(content))


def test_an_empty_document_is_not_called_incompressible(score_of, judged) -> None:
    assert score_of(CompressionRate(low=0, high=1), "") == [1]
    found = judged([{"name": "CompressionRate", "low": 0.1, "high": 1}], {"a": ""})
    assert found.rejected == {"a": ("uzushio.empty", 0, 1)}


@pytest.fixture
def word_list(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("#注釈\n猫\n子猫\n黒猫のタンゴ\r\n 犬\n\n𠮷野", encoding="utf-8")
    return path


def test_words_are_the_longest_that_start_at_a_place_and_do_not_overlap(score_of, word_list) -> None:
    texts = ("子猫と猫と猫", "黒猫のタンゴ、黒猫のタン", "犬 犬", "#注釈", "𠮷野家", "子\n\n猫")
    instances = score_of(WordInstances(list=word_list), *texts)
    assert instances == [3, 2, 1, 0, 1, 1]
    assert score_of(WordTypes(list=word_list), *texts) == [2, 2, 1, 0, 1, 1]


def test_kinds_of_word_types(score_of, word_list) -> None:
    text = "猫猫猫猫、子猫、 犬 犬"
    assert score_of(WordTypes(list=word_list, kind="uniq"), text) == [3]
    assert score_of(WordTypes(list=word_list, kind="sqrt"), text) == pytest.approx([2 + 1 + math.sqrt(2)], rel=1e-6)
    assert score_of(WordTypes(list=word_list, kind="log10"), text) == pytest.approx([3 + math.log10(8)], rel=1e-6)


def test_word_instances_go_at_the_threshold_within_a_thousandth(judged, word_list) -> None:
    stage = {"name": "WordInstances", "list": str(word_list), "threshold": 2.0005, "full": 1.0}
    found = judged([stage], {"a": "猫", "b": "猫猫"})
    assert found.rejected["b"][:2] == ("uzushio.1.WordInstances", 2) and set(found.rejected) == {"b"}
    types = {"name": "WordTypes", "list": str(word_list), "threshold": 2.0005}
    assert judged([types], {"b": "猫子猫"}).rejected == {}


def test_percentile_is_the_element_at_the_floor_of_a_32_bit_product(score_of) -> None:
    near = [*range(20, 0, -1)]
    text = "\n\n".join(map(str, near))
    for percentile, expected in ((0.0, 1), (0.05, 2), (0.1, 3), (0.5, 11), (0.99, 20)):
        assert score_of(DeduplicateDocumentsPercentile(percentile=percentile), text, near=near) == [expected]


def test_a_document_stays_with_the_chance_of_expected_over_frequency(judged) -> None:
    texts = {f"https://example.jp/{n}": "同じ文書" for n in range(4000)}
    found = judged([{"name": "DeduplicateDocumentsPercentile", "expected": 5}], texts, {"同じ文書": 20})
    assert abs(len(found.rejected) / 4000 - 0.75) < 0.03
    drawn = dict(zip(texts, random_of(pa.array(list(texts))).tolist(), strict=True))
    assert set(found.rejected) == {name for name in texts if drawn[name] > 5 / 20}
    label, score, threshold = next(iter(found.rejected.values()))
    assert (label, score) == ("uzushio.1.DeduplicateDocumentsPercentile", 20) and score > threshold
    assert judged([{"name": "DeduplicateDocumentsPercentile", "expected": 20}], texts, {"同じ文書": 20}).rejected == {}


def test_thinning_stages_are_nested_because_the_number_is_the_same(judged) -> None:
    texts = {f"d{n}": "同じ文書" for n in range(500)}
    stages = [{"name": "DeduplicateDocumentsPercentile", "expected": e} for e in (1.5, 2.5, 5)]
    assert {label for label, *_ in judged(stages, texts, {"同じ文書": 9}).rejected.values()} == {
        "uzushio.1.DeduplicateDocumentsPercentile"
    }


def test_length_weighted_frequencies(score_of) -> None:
    text = "あ" * 30 + "\n\n" + "い" * 10
    assert score_of(DuplicateDocumentsLengthWeighted(), text, near=[1, 100]) == [(30 * 1 + 10 * 3) / 40]
    stage = DeduplicateDocuments(base_num_freq=10)
    assert score_of(stage, text, near=[1, 100]) == [10 / 40]
    assert score_of(stage, text, near=[2, 10]) == pytest.approx([(30 * math.log10(2) + 10) / 40])
    assert score_of(stage, "", near=[7]) == [0]


def test_random_bounds_have_mean_and_deviation_as_named_or_swapped_as_upstream(documents_of) -> None:
    documents = documents_of(*["文"] * 2000)
    alive = np.ones(2000, bool)
    named = DeduplicateDocuments().drawn_thresholds(documents, alive)
    swapped = DeduplicateDocuments(as_upstream=True).drawn_thresholds(documents, alive)
    assert abs(named.mean() - 0.3) < 0.02 and abs(named.std() - 0.1) < 0.01
    assert abs(swapped.mean() - 0.1) < 0.04 and abs(swapped.std() - 0.3) < 0.02
    drawn = gaussian(int(hash_texts(documents.ids)[0]))
    assert (named[0], swapped[0]) == (drawn * 0.1 + 0.3, drawn * 0.3 + 0.1)


def test_deduplicate_documents_goes_at_its_bound(judged) -> None:
    texts = {f"d{n}": "文" for n in range(200)}
    assert len(judged([{"name": "DeduplicateDocuments"}], texts, {"文": 10}).rejected) == 200
    assert len(judged([{"name": "DeduplicateDocuments"}], texts).rejected) < 5
    upstream = judged([{"name": "DeduplicateDocuments", "as_upstream": True}], texts)
    # A bound of 0 or less removes a document that occurs once: 37 % of the draws.
    assert 50 < len(upstream.rejected) < 100


def test_reasons_name_label_score_and_bound(judged) -> None:
    from tasks.curation.filters.uzushio import Uzushio

    stages = [{"name": "DocLength", "low": 5}, {"name": "DeduplicateDocumentsPercentile", "expected": 2}]
    step = Uzushio.model_validate({"stages": stages})
    assert step.reason("uzushio.1.DocLength", 3, 5) == (
        "uzushio.1.DocLength: 3 characters (UTF-16 units), below the minimum of 5"
    )
    assert step.reason("uzushio.2.DeduplicateDocumentsPercentile", 9, 2.5).endswith(
        "9 occurrences, above the 2.5 that its id allows for 2 expected"
    )
    assert step.bounds_of("uzushio.1.DocLength") == (5, None)
    assert step.labels == ("uzushio.1.DocLength", "uzushio.2.DeduplicateDocumentsPercentile", "uzushio.empty")


@pytest.mark.parametrize("stage", [{"name": "DocLength", "low": 5, "high": 4}, {"name": "CompressionRate", "low": 0.1}])
def test_bounds_out_of_order_and_missing_ones_are_refused(judged, stage) -> None:
    with pytest.raises(ValidationError):
        judged([stage], {"a": "文"})
