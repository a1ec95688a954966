"""Japanese words, where the optional MeCab packages are installed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from data_contracts.errors import MissingPackage

PIECE_CHARACTERS = 1000
"""Longest piece given to MeCab: it dies on a line of some million characters and takes quadratic time on long runs of
one script."""


def split_words(text: str, step: str) -> list[str]:
    """The words of a text: short units of UniDic, punctuation included, white space not.

    Texts are cut at line ends, and lines of more than PIECE_CHARACTERS after the last 「。」 that fits, or anywhere if
    there is none. Raises MissingPackage, in the name of the `step` that wants words.
    """
    tagger = _tagger(step)
    return [word for piece in _pieces(text) for word in tagger.parse(piece).split()]


def _pieces(text: str) -> Iterator[str]:
    # MeCab reads C strings, which end at a NUL.
    for line in text.replace("\0", " ").split("\n"):
        start = 0
        while len(line) - start > PIECE_CHARACTERS:
            stop = line.rfind("。", start, start + PIECE_CHARACTERS) + 1 or start + PIECE_CHARACTERS
            yield line[start:stop]
            start = stop
        if start < len(line):
            yield line[start:]


@cache
def _tagger(step: str) -> Any:
    try:
        import fugashi
        import unidic_lite
    except ImportError as error:
        raise MissingPackage.of(step, f"{error.name}", "words") from error
    # The dictionary is named, as fugashi would take another one where it finds it, and count other words.
    folder = unidic_lite.DICDIR
    return fugashi.GenericTagger(f'-Owakati -r "{folder}/mecabrc" -d "{folder}"')
