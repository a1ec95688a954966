"""The folding table for machines that fold characters side by side: it knows those that fold to several, too."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import NamedTuple

import numpy as np

from tasks.curation.characters import ASSIGNED_END
from tasks.curation.folding import COMPLEX, CONTEXT_DEPENDENT, DROPPED, composition_seconds, folding_table

EXPANDED = -3
"""This entry and all below it: EXPANDED - number of the expansion."""

SELECTORS = range(0xE0100, 0xE01F0)
"""Variation selectors, which stand behind ideographs and fold to themselves."""


class Expansions(NamedTuple):
    """table: (0x110000,) int32 as `folding_table`, with fewer COMPLEX entries; bounds: (expansions + 1,) int32 of each
    one in `codes`, uint32 code points."""

    table: np.ndarray
    bounds: np.ndarray
    codes: np.ndarray


@cache
def expansions() -> Expansions:
    """The table in which a character such as U+2026 or U+3314 is spelled out instead of being COMPLEX.

    What a character folds to depends on its neighbours only if a mark may melt into it or into the one before it. So
    one whose full decomposition begins with neither a mark nor such a second half folds as it does alone.
    """
    table, seconds = folding_table().copy(), composition_seconds()
    found: dict[str, int] = {}
    for code in (*np.flatnonzero(table[:ASSIGNED_END] == COMPLEX).tolist(), *SELECTORS):
        folded = _folded_alone(chr(code), seconds)
        if folded is None:
            continue
        if len(folded) > 1:
            table[code] = EXPANDED - found.setdefault(folded, len(found))
        else:
            table[code] = ord(folded) if folded else DROPPED
    bounds = np.cumsum([0, *map(len, found)], dtype=np.int32)
    codes = np.frombuffer("".join(found).encode("utf-32-le"), dtype=np.uint32)
    return Expansions(table, bounds, codes)


def _folded_alone(character: str, seconds: frozenset[str]) -> str | None:
    if unicodedata.category(character) in ("Cn", "Cs"):
        return None
    whole = unicodedata.normalize("NFKC", character)
    if CONTEXT_DEPENDENT in whole:
        return None
    for first in (character, unicodedata.normalize("NFKD", character)[0], whole[0]):
        if unicodedata.combining(first) or first in seconds:
            return None
    return "".join(whole.lower().split())
