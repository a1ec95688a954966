"""Where an id stands among millions, found by its hash and decided by comparing the ids themselves."""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.errors import DataError
from tasks.curation.characters import text_buffers
from tasks.curation.minhash import BASE, mixed


class IdIndex:
    """Rows of ids; 16 bytes an id beside the ids themselves."""

    def __init__(self, ids: pa.LargeStringArray) -> None:
        self._ids = ids
        hashes = _hashes(ids)
        self._order = np.argsort(hashes)
        self._hashes = hashes[self._order]

    def find(self, ids: pa.Array | pa.ChunkedArray, expected: np.ndarray | None = None) -> np.ndarray:
        """(ids,) int64 row of each id, -1 for one that is not there.

        expected: rows at which the first of the ids stand, most likely; where that is so, nothing is searched.
        """
        wanted = _large(ids)
        rows, pending = np.full(len(wanted), -1), np.arange(len(wanted))
        if expected is not None:
            guessed = pending[: len(expected)]
            right = self._equal(expected[: len(wanted)], wanted.slice(0, len(guessed)))
            rows[guessed[right]] = expected[: len(wanted)][right]
            pending = np.flatnonzero(rows < 0)
        hashes = _hashes(wanted) if len(pending) else np.zeros(0, np.uint64)
        places = np.searchsorted(self._hashes, hashes)
        while len(pending):
            pending = pending[places[pending] < len(self._hashes)]
            pending = pending[self._hashes[places[pending]] == hashes[pending]]
            found = self._order[places[pending]]
            equal = self._equal(found, wanted.take(pa.array(pending)))
            rows[pending[equal]] = found[equal]
            # Another id with the same hash: its neighbour may be the one.
            pending = pending[~equal]
            places[pending] += 1
        return rows

    def _equal(self, rows: np.ndarray, wanted: pa.LargeStringArray) -> np.ndarray:
        """(rows,) bool: whether those ids are the wanted ones."""
        return pc.equal(self._ids.take(pa.array(rows)), wanted).to_numpy(zero_copy_only=False)

    def check_unique(self) -> None:
        """Raises DataError if an id occurs twice."""
        same = self._hashes[1:] == self._hashes[:-1]
        suspects = np.zeros(len(self._hashes), dtype=bool)
        suspects[1:] |= same
        suspects[:-1] |= same
        counts = pc.value_counts(self._ids.take(pa.array(np.sort(self._order[suspects]))))
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
        if len(twice):
            raise DataError(
                f"`{twice[0]}`: found on more than one document ({len(twice)} such ids), expected ids to be unique",
                hint="give every document of the source an id of its own",
            )


def _large(ids: pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    array = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    return array.cast(pa.large_string())


def _hashes(ids: pa.LargeStringArray) -> np.ndarray:
    """(ids,) uint64."""
    hashes = np.empty(len(ids), dtype=np.uint64)
    _hash_each(*text_buffers(ids), hashes)
    return hashes


@numba.njit(cache=True, nogil=True)
def _hash_each(data, bounds, hashes):
    for row in range(len(hashes)):
        value = np.uint64(bounds[row + 1] - bounds[row])
        for place in range(bounds[row], bounds[row + 1]):
            value = value * BASE + np.uint64(data[place])
        hashes[row] = mixed(value)
