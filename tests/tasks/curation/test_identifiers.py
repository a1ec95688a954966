"""Ids are found by hash and told apart by themselves."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.errors import DataError
from tasks.curation import identifiers
from tasks.curation.identifiers import IdIndex

IDS = st.lists(st.text(st.sampled_from("aあ😀"), max_size=4), unique=True, max_size=30)


@given(IDS, IDS)
def test_each_id_is_found_where_it_stands(ids: list[str], others: list[str]) -> None:
    found = IdIndex(pa.array(ids, pa.large_string())).find(pa.chunked_array([ids[:5], others], pa.string()))
    wanted = [*ids[:5], *others]
    assert found.tolist() == [ids.index(i) if i in ids else -1 for i in wanted]


@given(IDS, st.lists(st.integers(0, 29), max_size=30))
def test_where_an_id_is_expected_decides_nothing(ids: list[str], expected: list[int]) -> None:
    index, rows = IdIndex(pa.array(ids, pa.large_string())), np.array([row for row in expected if row < len(ids)], int)
    wanted = [*ids[::2], "x", *ids[1::2]]
    assert (
        index.find(pa.array(wanted, pa.string()), rows).tolist() == index.find(pa.array(wanted, pa.string())).tolist()
    )


def test_ids_with_equal_hashes_are_not_confused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identifiers, "_hashes", lambda ids: pc.binary_length(ids).to_numpy().astype(np.uint64))
    index = IdIndex(pa.array(["aa", "bb", "cc", "d"], pa.large_string()))
    index.check_unique()
    assert index.find(pa.array(["cc", "xx", "aa", "d", "eee"])).tolist() == [2, -1, 0, 3, -1]
    with pytest.raises(DataError, match=r"`b`: found on more than one document \(2 such ids\)"):
        IdIndex(pa.array(["a", "b", "c", "b", "c", "b"], pa.large_string())).check_unique()
