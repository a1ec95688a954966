"""Token files are read back as written, by us and by Megatron, and damage is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.errors import DamagedArtifact
from data_contracts.token_files import TokenFile, token_dtype, write_index


def write_pair(folder: Path, documents: list[list[int]], vocabulary_size: int = 1000) -> Path:
    dtype = token_dtype(vocabulary_size)
    prefix = folder / "train_text_document"
    Path(f"{prefix}.bin").write_bytes(b"".join(np.array(d, dtype).tobytes() for d in documents))
    with open(f"{prefix}.idx", "wb") as file:
        write_index(file, np.array([len(d) for d in documents]), dtype)
    return prefix


@given(
    documents=st.lists(st.lists(st.integers(0, 999), min_size=1, max_size=20), max_size=20),
    vocabulary_size=st.sampled_from([1000, 200_000]),
)
@settings(max_examples=50, deadline=None)
def test_documents_come_back_as_written(tmp_path_factory, documents, vocabulary_size):
    tokens = TokenFile(write_pair(tmp_path_factory.mktemp("pair"), documents, vocabulary_size))
    assert [list(d) for d in tokens] == documents
    assert tokens.num_tokens == sum(map(len, documents))


def test_large_vocabularies_take_four_bytes_a_token():
    assert token_dtype(65_499).itemsize == 2
    assert token_dtype(65_500).itemsize == 4
    assert token_dtype(151_936) == np.dtype("<i4")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("vocabulary_size", [1000, 151_936])
def test_megatron_core_opens_the_pair_and_sees_the_same_documents(tmp_path, vocabulary_size):
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="megatron-core is not installed")
    documents = [[1, 2, 3], [4], [5, 6]]
    dataset = indexed.IndexedDataset(str(write_pair(tmp_path, documents, vocabulary_size)))
    assert [dataset[i].tolist() for i in range(len(dataset))] == documents
    assert dataset.document_indices.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_pair_cut_or_grown_by_one_byte_is_refused(tmp_path, suffix, change):
    prefix = write_pair(tmp_path, [[1, 2, 3], [4]])
    path = Path(f"{prefix}{suffix}")
    os.truncate(path, path.stat().st_size + change)
    with pytest.raises(DamagedArtifact, match="bytes"):
        TokenFile(prefix)


def test_every_flipped_header_byte_is_refused(tmp_path):
    prefix = write_pair(tmp_path, [[1, 2, 3], [4]])
    index = Path(f"{prefix}.idx")
    whole = index.read_bytes()
    for position in range(34):
        index.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        with pytest.raises(DamagedArtifact):
            TokenFile(prefix)
