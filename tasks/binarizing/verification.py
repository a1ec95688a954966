"""Which documents have their ids compared with the reference tokenizer's, and the comparison."""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.errors import DataError
from tasks.binarizing.encoders import Reference

MIN_SAMPLED_PER_SHARD = 8
SAMPLED_ONE_IN = 512
"""One document in 512 costs about 4 % of the encoding: the reference is 15 to 30 times slower."""

RUN_BLOCK_BYTES = 256
RUN_PERIOD_BYTES = 12
"""A run of one character of 1, 2, 3 or 4 bytes repeats itself after 12."""

USUAL = r"\t\n\r \x{a0}\x{3000}\p{L}\p{N}\p{P}\p{S}\p{Cf}"
BEYOND_BMP = r"\x{10000}-\x{10ffff}"


def sampled(first_row: int, num_rows: int, num_shard_rows: int) -> np.ndarray:
    """(num_rows,) whether each row is of the sample, which lies evenly over the shard, however that is cut."""
    every = max(1, min(SAMPLED_ONE_IN, num_shard_rows // MIN_SAMPLED_PER_SHARD))
    return np.arange(first_row, first_row + num_rows) % every == 0


def unusual(texts: pa.StringArray) -> np.ndarray:
    """(texts,) whether a text holds what tokenizers disagree about.

    That is: it is not in NFC, or it has characters beyond the BMP, control characters other than tab and line ends,
    private or unassigned ones, rare spaces, or a run of one character over more than 512 bytes.
    """
    found = _has_long_run(texts)
    # One regular expression over all finds the few that may be unusual; only these are looked at closely.
    candidates = np.flatnonzero(pc.match_substring_regex(texts, _candidate_pattern()).to_numpy(zero_copy_only=False))
    few = texts.take(pa.array(candidates))
    rare = pc.match_substring_regex(few, rf"[^{USUAL}\p{{M}}]|[{BEYOND_BMP}]").to_numpy(zero_copy_only=False)
    not_nfc = [not unicodedata.is_normalized("NFC", text) for text in few.to_pylist()]
    found[candidates] |= rare | np.array(not_nfc, dtype=bool)
    return found


@cache
def _candidate_pattern() -> str:
    """Matches every text that `unusual` is true for, and some more: a text out of NFC has a mark or one of these."""
    changed = [n for n in range(0x10000) if not 0xD800 <= n < 0xE000 and not unicodedata.is_normalized("NFC", chr(n))]
    singles = "".join(rf"\x{{{n:x}}}" for n in changed)
    return rf"[^{USUAL}]|[{BEYOND_BMP}\x{{1100}}-\x{{11ff}}{singles}]"


def _has_long_run(texts: pa.StringArray) -> np.ndarray:
    """(texts,) whether a whole block of the text's bytes equals the bytes one period on."""
    found = np.zeros(len(texts), dtype=bool)
    _, offset_buffer, data_buffer = texts.buffers()
    if not len(texts) or data_buffer is None:
        return found
    offsets = np.frombuffer(offset_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]]
    same = data[RUN_PERIOD_BYTES:] == data[:-RUN_PERIOD_BYTES]
    words = same[: len(same) // RUN_BLOCK_BYTES * RUN_BLOCK_BYTES].view(np.uint64).reshape(-1, RUN_BLOCK_BYTES // 8)
    blocks = np.flatnonzero(words.min(axis=1) == 0x0101010101010101) if len(words) else np.zeros(0, np.int64)
    found[np.searchsorted(offsets - offsets[0], blocks * RUN_BLOCK_BYTES, side="right") - 1] = True
    return found


def verify(
    rows: np.ndarray, texts: list[str], names: pa.StringArray, ids: np.ndarray, offsets: np.ndarray, where: str,
    reference: Reference,
) -> None:  # fmt: skip
    """Encodes those rows of a batch with the reference and compares.

    Raises DataError, with the shard and the document's id, for the first whose ids differ.
    """
    for row in rows:
        if not np.array_equal(ids[offsets[row] : offsets[row + 1]], reference.ids(texts[row])):
            raise wrong_ids(where, names[row].as_py(), "its token ids are not the reference tokenizer's")


def refuse_wrong_ids(
    ids: np.ndarray, offsets: np.ndarray, names: pa.StringArray, where: str, reference: Reference, allow_control: bool
) -> None:
    """Raises DataError for the first document with an id outside of the vocabulary, or with a control token inside."""
    if not len(ids):
        return
    if ids.max() >= reference.vocabulary_size:
        row = _row_of(int(ids.argmax()), offsets)
        raise wrong_ids(where, names[row].as_py(), f"a token id above the vocabulary of {reference.vocabulary_size}")
    if not allow_control and (control := reference.is_control[ids]).any():
        row = _row_of(int(control.argmax()), offsets)
        raise wrong_ids(where, names[row].as_py(), "its text became a control token")


def _row_of(token: int, offsets: np.ndarray) -> int:
    return int(np.searchsorted(offsets, token, side="right")) - 1


def wrong_ids(where: str, document: str, found: str) -> DataError:
    return DataError(
        f"`{where}`: document {document}: {found}, expected the ids of its text alone",
        hint="set `encoder` to `tokenizers` and report it; if that fails too, this tokenizer is not deterministic or "
        "maps plain text to control tokens",
    )
