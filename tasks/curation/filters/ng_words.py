"""Documents that hold words of a list that the user gives."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from data_contracts.errors import ConfigError
from tasks.curation.filters.base import Filter, Scale
from tasks.runtime import NOT_IDENTITY

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class NgWords(Filter):
    """Number of entries of a list that occur in a document, or of all their occurrences, overlapping ones included.

    The list is `words`, and `words_file` with one entry a line (UTF-8, empty lines and lines that begin with # left
    out); none comes with this package. With `fold`, texts and entries are compared in NFKC without case. With
    `whole_runs`, an entry does not count inside a longer run of katakana or of letters and digits: 「サイン」 is not
    found in 「コサイン」; kanji and hiragana have no such borders. Time is linear in the text, whatever
    the number of entries (Aho and Corasick 1975). Unit: entries or occurrences. Default: none may occur. Source: the
    page filter of C4 (Raffel et al. 2020), which dropped each page with a word of a list.
    """

    unit: ClassVar[str] = "listed words"
    scale: ClassVar[Scale] = "count"

    filter: Literal["ng_words"] = "ng_words"
    words: tuple[str, ...] = Field(default=(), description="Entries of the list.")
    words_file: Path | None = Field(
        default=None, description="File of further entries, one a line.", json_schema_extra=NOT_IDENTITY
    )
    mode: Literal["entries", "occurrences"] = Field(
        default="entries", description="Whether each entry counts once or wherever it occurs."
    )
    max_found: int = Field(default=0, ge=0, description="Most entries or occurrences that a document may hold to stay.")
    fold: bool = Field(default=True, description="Compare in NFKC and without case.")
    whole_runs: bool = Field(
        default=True, description="Do not find entries inside longer runs of katakana, or of letters and digits."
    )

    @model_validator(mode="after")
    def _has_words(self) -> Self:
        if self.words_file is None and not any(word.strip() for word in self.words):
            raise ValueError("neither words nor a words_file is given")
        return self

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return None, self.max_found

    def outside_files(self) -> dict[str, Path]:
        return {"words_file": self.words_file} if self.words_file else {}

    def entries(self) -> tuple[str, ...]:
        """The distinct entries as they are sought, in the order of the list."""
        listed = [*self.words, *_read(self.words_file)] if self.words_file else self.words
        stripped = (self._comparable(word.strip()) for word in listed)
        return tuple(dict.fromkeys(word for word in stripped if word))

    def scores(self, texts: pa.Array) -> np.ndarray:
        from tasks.curation.matching import count_matches

        compared = [self._comparable(text) for text in texts.to_pylist()]
        distinct, total = count_matches(compared, self.entries(), whole_runs=self.whole_runs)
        return (distinct if self.mode == "entries" else total).astype("float64")

    def _comparable(self, text: str) -> str:
        if not self.fold:
            return text
        normal = unicodedata.normalize("NFKC", text)
        folded = normal.casefold()
        # Once more, as a character without case may be one that NFKC replaces.
        return folded if folded == normal else unicodedata.normalize("NFKC", folded)


def _read(path: Path) -> list[str]:
    """The entries of a file. It is read for each batch, which takes no time beside it, so it cannot grow stale."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"`{path}`: found the byte {error.object[error.start]:#04x} at {error.start}, expected UTF-8",
            hint="convert the word list to UTF-8",
        ) from error
    entries = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not entries:
        raise ConfigError(f"`{path}`: found no entry, expected one a line", hint="correct `words_file`")
    return entries
