"""Frequencies of paragraphs over a corpus, exact and of near-duplicates, whatever the order and the shards."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.curation.uzushio.cleaning import comparison_hashes, comparison_texts
from tasks.curation.uzushio.near_duplicates import representatives, signatures
from tasks.curation.uzushio.paragraph_counts import ParagraphCounts, with_frequencies

EXACT = ParagraphCounts(near=False, rotations=10, window=300, matching_bits=76)
NEAR = ParagraphCounts(near=True, rotations=10, window=300, matching_bits=76)


def counted(statistic, shards) -> pa.Table:
    tables = [statistic.combine(statistic.gather(pa.array([text], pa.string())) for text in shard) for shard in shards]
    return statistic.finish(statistic.combine(tables))


def frequencies(statistic, *shards) -> dict[str, tuple[int, int]]:
    """Exact and near frequency of each different paragraph."""
    table = counted(statistic, shards)
    paragraphs = {p.rpartition("\x1c")[2] for shard in shards for text in shard for p in text.split("\n\n")}
    cleaned = sorted(set(comparison_texts(pa.array(sorted(paragraphs), pa.string())).to_pylist()))
    known = {row["hash"]: (row["exact"], row["near"]) for row in table.to_pylist()}
    hashes = comparison_hashes(pa.array(cleaned, pa.string())).tolist()
    return {text: known.get(key, (1, 1)) for text, key in zip(cleaned, hashes, strict=True)}


def test_equal_cleaned_paragraphs_are_counted_over_all_shards_and_single_ones_are_not_stored() -> None:
    shards = (["共通\n\n一度", "h1\x1c共通 "], ["\x02共通\x03\n\n共通\n続き"], [])
    assert frequencies(EXACT, *shards) == {"共通": (3, 3), "一度": (1, 1), "共通\n続き": (1, 1)}
    table = counted(EXACT, shards)
    assert table.num_rows == 1 and table["hash"].to_pylist() == table["representative"].to_pylist()
    assert counted(NEAR, ()).num_rows == counted(NEAR, ([],)).num_rows == 0


def test_hashes_are_xxhash64_with_seed_42_read_as_signed() -> None:
    import xxhash

    texts = ["", "日本語", "𠮷野家"]
    found = comparison_hashes(pa.array(texts)).tolist()
    expected = [xxhash.xxh64(text.encode(), seed=42).intdigest() for text in texts]
    assert [value % 2**64 for value in found] == expected and min(found) < 0


def test_near_duplicates_share_their_frequency_and_others_do_not(prose) -> None:
    text = prose(1, 200)
    near = text.replace("。", "！", 1)
    shards = ([text, text, near, prose(2, 200)], ["短い文です。これは例", "短い文です、これは例"])
    found = frequencies(NEAR, *shards)
    assert found[text] == (2, 3) and found[near] == (1, 3) and found[prose(2, 200)] == (1, 1)
    assert found["短い文です。これは例"] == found["短い文です、これは例"] == (1, 2)


def test_documents_get_the_frequencies_of_their_paragraphs(documents_of) -> None:
    documents = documents_of("p\x1c共通 \n\n別", "共通")
    table = EXACT.finish(EXACT.combine([EXACT.gather(pa.array(["共通", "共通\n\n別の"]))]))
    assert with_frequencies(documents, table).near.tolist() == [2, 1, 2]
    assert with_frequencies(documents, table.slice(1)).near.tolist() == [1, 1, 1]


def test_texts_that_differ_too_much_in_length_or_wording_do_not_match(prose) -> None:
    def groups(*texts: str, bits: int = 0) -> int:
        column = pa.array(texts, pa.large_string())
        hashes = comparison_hashes(column)
        found = representatives(column, hashes, signatures(column), rotations=128, window=9, matching_bits=bits)
        assert all(representative <= own for representative, own in zip(found, hashes, strict=True))
        return len(np.unique(found))

    long = prose(3, 400)
    assert groups(long, long + "あ" * 50) == 1
    assert groups(long, long + "あ" * 51) == 2
    assert groups("あいうえおかきくけこ", "あいうえおかきくけさ") == 1
    # 2 edits of 6 units are a third.
    assert groups("あいうえおか", "あいうえきく") == 2
    assert groups("あいうえおか", "かおえういあ") == 2
    assert groups("𠮷野家で牛丼を食べた", "𠮷野家で牛丼を食べる", bits=76) == 1


def edits(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        row, before = [i + 1], row
        for j, y in enumerate(b):
            row.append(min(before[j + 1] + 1, row[j] + 1, before[j] + (x != y)))
    return row[-1]


@given(st.text("あいう", max_size=12), st.text("あいう", max_size=12))
def test_edit_distance_is_levenshteins(a, b) -> None:
    from tasks.curation.uzushio.near_duplicates import _edits

    units = (np.frombuffer(text.encode("utf-16-le"), dtype=np.uint16) for text in (a, b))
    assert _edits(*units) == edits(a, b)


def test_signatures_of_like_texts_agree_and_depend_on_ngrams_alone(prose) -> None:
    text, other = prose(4, 500), prose(5, 500)
    first, changed, far = signatures(pa.array([text, text[:250] + "変" + text[250:], other])).tolist()
    agreeing = [128 - sum((a ^ b).bit_count() for a, b in zip(first, x, strict=True)) for x in (changed, far)]
    assert agreeing[0] > 110 and agreeing[1] < 100
    # n-grams do not cross the end of a line: the order of lines does not matter.
    lines = [prose(6, 60), prose(7, 60)]
    [[a, b]] = [signatures(pa.array(["\n".join(lines), "\n".join(lines[::-1])])).tolist()]
    assert a == b


WORDS = [
    "共通の段落です。",
    "共通の段落でした。",
    "別の段落",
    "短",
    "もっと長い段落がここにあります。",
    "もっと長い段落がここにある。",
]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), max_size=10), st.integers(1, 4), st.randoms())
def test_order_and_shards_do_not_change_the_frequencies(documents, num_shards, chance) -> None:
    texts = ["\n\n".join(paragraphs) for paragraphs in documents]
    whole = counted(NEAR, (texts,))
    shuffled = list(texts)
    chance.shuffle(shuffled)
    assert counted(NEAR, [shuffled[n::num_shards] for n in range(num_shards)]).equals(whole)


def test_planted_near_duplicates_are_found_among_many(prose) -> None:
    generator = random.Random(8)
    originals = [prose(1000 + n, 150) for n in range(300)]
    changed = []
    for text in originals:
        place = generator.randrange(len(text))
        changed.append(text[:place] + "改" + text[place + 1 :])
    found = frequencies(NEAR, originals, changed)
    joined = sum(found[text] == (1, 2) for text in originals)
    assert joined >= 295 and max(near for _, near in found.values()) == 2


@pytest.mark.parametrize("window", [1, 50])
def test_a_small_window_misses_pairs_but_invents_none(prose, window) -> None:
    texts = [prose(1, 200), prose(1, 200).replace("。", "！", 1), *(prose(n, 200) for n in range(2, 60))]
    statistic = ParagraphCounts(near=True, rotations=1, window=window, matching_bits=76)
    assert all(near <= 2 for _, near in frequencies(statistic, texts).values())
