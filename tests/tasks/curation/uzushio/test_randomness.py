"""Numbers drawn from ids, against a plain reading of section 1.2 and against the Java class library."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.curation.uzushio.randomness import gaussian, hash_texts, random_of

WORD = (1 << 64) - 1


def plain_hash(text: str) -> int:
    state = 0xDEADBEEFFEED133
    units = text.encode("utf-16-le")
    values = [int.from_bytes(units[i : i + 2], "little") for i in range(0, len(units), 2)]
    for value in [*values, len(values)]:
        product = ((((value + 1442695040888963407) & WORD) ^ state) * 6364136223846793005) & WORD
        state = (product >> 23) | ((product << 41) & WORD)
    return state


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=8))
def test_hash_and_number_are_those_of_the_plain_reading(ids) -> None:
    column = pa.array(ids, pa.string())
    assert hash_texts(column).tolist() == [plain_hash(text) for text in ids]
    assert random_of(column).tolist() == [(plain_hash(text) % 2**54) / 2**54 for text in ids]


def test_characters_beyond_the_bmp_count_as_two_units() -> None:
    first, second = hash_texts(pa.array(["𠮷", "\ufffd"])).tolist()
    assert first == plain_hash("𠮷") and first != second


def test_numbers_are_spread_evenly_over_the_unit_interval() -> None:
    drawn = random_of(pa.array([f"https://example.jp/{n}" for n in range(20_000)]))
    assert drawn.min() >= 0 and drawn.max() < 1
    shares = np.histogram(drawn, bins=10, range=(0, 1))[0] / len(drawn)
    assert np.abs(shares - 0.1).max() < 0.01


@pytest.mark.parametrize(("seed", "expected"), [(42, 1.1419053154730547), (0, 0.8025330637390305)])
def test_gaussian_is_that_of_java_util_random(seed, expected) -> None:
    assert gaussian(seed) == pytest.approx(expected, abs=1e-15)
    assert gaussian(seed + (1 << 48)) == gaussian(seed)
    assert gaussian(-1) == gaussian((1 << 64) - 1)
