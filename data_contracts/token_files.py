"""Megatron's `MMIDIDX` version 1 token files (`.bin` + `.idx`), read and written with numpy alone.

Layout of `.idx`, little-endian: magic `MMIDIDX\\0\\0` (9 bytes), version u64 = 1, dtype code u8, number of sequences
u64, number of document bounds u64, then sequence lengths (i32), byte offsets of the sequences in `.bin` (i64) and
document bounds as sequence indices starting at 0 (i64).
Source: Megatron-LM, `megatron/core/datasets/indexed_dataset.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_contracts.errors import DamagedArtifact
from data_contracts.files import HashingFile

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
DTYPE_BY_CODE = {
    1: np.dtype("<u1"),
    2: np.dtype("<i1"),
    3: np.dtype("<i2"),
    4: np.dtype("<i4"),
    5: np.dtype("<i8"),
    6: np.dtype("<f8"),
    7: np.dtype("<f4"),
    8: np.dtype("<u2"),
}
CODE_BY_DTYPE = {dtype: code for code, dtype in DTYPE_BY_CODE.items()}
UINT16_VOCABULARY_LIMIT = 65_500
"""Below this vocabulary size Megatron stores 2-byte tokens, from it on 4-byte ones."""

HINT = "the token files are damaged or of another format; rebuild the binarize stage"


def token_dtype(vocabulary_size: int) -> np.dtype:
    """The dtype Megatron picks for token ids of that vocabulary: uint16 or int32."""
    return DTYPE_BY_CODE[8] if vocabulary_size < UINT16_VOCABULARY_LIMIT else DTYPE_BY_CODE[4]


def write_index(file: BinaryIO | HashingFile, lengths: np.ndarray, dtype: np.dtype) -> None:
    """Writes the `.idx` of documents of one sequence each.

    lengths: (documents,) number of tokens of each, in the order of the `.bin`; dtype: that of the `.bin`.
    """
    lengths = np.ascontiguousarray(lengths, dtype="<i4")
    offsets = np.zeros(len(lengths), dtype="<i8")
    np.cumsum(lengths[:-1], dtype=np.int64, out=offsets[1:])
    file.write(HEADER.pack(MAGIC, VERSION, CODE_BY_DTYPE[dtype], len(lengths), len(lengths) + 1))
    file.write(lengths.tobytes())
    file.write((offsets * dtype.itemsize).tobytes())
    file.write(np.arange(len(lengths) + 1, dtype="<i8").tobytes())


class TokenFile:
    """A memory-mapped pair `<prefix>.bin`, `<prefix>.idx`, fully checked when opened.

    tokens: (total tokens,) read-only view of the whole `.bin`; lengths: (documents,) int32 tokens per document;
    starts: (documents,) int64 index of each document's first token in `tokens`.
    Raises DamagedArtifact for anything that is not a whole and consistent pair.
    """

    def __init__(self, prefix: Path) -> None:
        self.index_path = Path(f"{prefix}.idx")
        self.data_path = Path(f"{prefix}.bin")
        for path in (self.index_path, self.data_path):
            if not path.is_file():
                raise DamagedArtifact(f"`{path}`: missing, expected a Megatron token file", hint=HINT)
        self._read_index(self.index_path.read_bytes())
        size = self.data_path.stat().st_size
        expected = int(self.lengths.sum(dtype=np.int64)) * self.dtype.itemsize
        self._require(size == expected, f"`.bin` holds {size} bytes, the index accounts for {expected}")
        self.tokens = np.memmap(self.data_path, dtype=self.dtype, mode="r") if size else np.zeros(0, self.dtype)

    def _read_index(self, content: bytes) -> None:
        self._require(len(content) >= HEADER.size, f"{len(content)} bytes, expected at least {HEADER.size}")
        magic, version, code, num_sequences, num_bounds = HEADER.unpack_from(content)
        self._require(magic == MAGIC, f"magic {magic!r}, expected {MAGIC!r}")
        self._require(version == VERSION, f"version {version}, expected {VERSION}")
        self._require(code in DTYPE_BY_CODE, f"dtype code {code}, expected one of {sorted(DTYPE_BY_CODE)}")
        size = HEADER.size + num_sequences * 12 + num_bounds * 8
        self._require(len(content) == size, f"{len(content)} bytes, its header accounts for {size}")
        self.dtype = DTYPE_BY_CODE[code]
        self.lengths = np.frombuffer(content, "<i4", num_sequences, HEADER.size)
        offsets = np.frombuffer(content, "<i8", num_sequences, HEADER.size + 4 * num_sequences)
        bounds = np.frombuffer(content, "<i8", num_bounds, HEADER.size + 12 * num_sequences)
        self.starts = np.zeros(num_sequences, dtype=np.int64)
        np.cumsum(self.lengths[:-1], dtype=np.int64, out=self.starts[1:])
        self._require(bool(np.all(self.lengths > 0)), "an empty sequence, expected at least one token each")
        self._require(
            np.array_equal(offsets, self.starts * self.dtype.itemsize), "offsets that do not follow the lengths"
        )
        self._require(
            np.array_equal(bounds, np.arange(num_sequences + 1)), "document bounds other than one sequence a document"
        )

    def _require(self, fits: bool, found: str) -> None:
        if not fits:
            raise DamagedArtifact(f"`{self.index_path}`: {found}", hint=HINT)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, document: int) -> np.ndarray:
        """Token ids of one document, (its tokens,), a read-only view."""
        start = self.starts[document]
        return self.tokens[start : start + self.lengths[document]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[document] for document in range(len(self)))

    @property
    def num_tokens(self) -> int:
        return len(self.tokens)
