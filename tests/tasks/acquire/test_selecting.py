"""Selection: ids are told apart and drawn by their hashes, exactly even where hashes are equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.rows import DOCUMENTS
from tasks.acquire.selecting import Selection, select
from tasks.acquire.shards import hashes_path, id_hash

IDS = st.lists(st.lists(st.sampled_from("abcdef"), max_size=8), min_size=1, max_size=4)


def write_shards(folder: Path, ids: list[list[str]], hashes: list[list[int]] | None = None) -> list[Path]:
    """Shards with those ids, and beside them their hashes or the given ones."""
    paths = []
    for number, shard in enumerate(ids):
        rows = {
            name: [f"s/f:{number * 100 + n}" if name == "source" else "" for n in range(len(shard))]
            for name in DOCUMENTS.names
        }
        path = folder / f"train-{number:05d}.parquet"
        pq.write_table(pa.table({**rows, "id": shard}, DOCUMENTS), path)
        own = hashes[number] if hashes else [id_hash(i, 0) for i in shard]
        np.save(hashes_path(path), np.array(own, np.uint64))
        paths.append(path)
    return paths


def kept(ids: list[list[str]], selections: list[Selection]) -> list[str]:
    return [
        s.new_ids.get(row, identifier)
        for shard, s in zip(ids, selections, strict=True)
        for row, identifier in enumerate(shard)
        if s.mask[row]
    ]


@given(ids=IDS)
@settings(max_examples=60, deadline=None)
def test_after_selection_ids_are_unique_and_the_first_keeps_its_own(tmp_path_factory, ids):
    paths = write_shards(tmp_path_factory.mktemp("ids"), ids)
    found = kept(ids, select(paths, None, 0))
    everything = [identifier for shard in ids for identifier in shard]
    assert len(set(found)) == len(found) == len(everything)
    first = {identifier: everything.index(identifier) for identifier in everything}
    for number, (old, new) in enumerate(zip(everything, found, strict=True)):
        assert new == old if first[old] == number else new.startswith(f"{old}@s/f:")


def test_a_new_id_that_some_document_already_has_is_made_longer(tmp_path):
    ids = [["x@s/f:2", "x", "x", "x@s/f:2"]]
    found = kept(ids, select(write_shards(tmp_path, ids), None, 0))
    assert found == ["x@s/f:2", "x", "x@s/f:2'", "x@s/f:2@s/f:3"]


def test_documents_of_equal_hash_and_other_id_are_not_taken_for_repeated(tmp_path):
    ids = [["a", "b"], ["c", "a"]]
    selections = select(write_shards(tmp_path, ids, [[5, 5], [5, 5]]), None, 0)
    assert [s.new_ids for s in selections] == [{}, {1: "a@s/f:101"}]


@given(layout=st.permutations(range(12)), wanted=st.integers(1, 12), values=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_the_draw_keeps_the_exact_number_and_orders_equal_hashes_by_id(tmp_path_factory, layout, wanted, values):
    names = [f"id{n:02d}" for n in layout]
    ids = [names[:5], [], names[5:]]
    hashes = [[int(name[2:]) % values for name in shard] for shard in ids]
    paths = write_shards(tmp_path_factory.mktemp("draw"), ids, hashes)
    expected = sorted(names, key=lambda name: (int(name[2:]) % values, name))[:wanted]
    assert sorted(kept(ids, select(paths, wanted, 0))) == sorted(expected)
