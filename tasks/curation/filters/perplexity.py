"""Documents that a language model finds too strange, or too well known."""

# pyright: reportMissingImports=false
# kenlm is an optional package.
from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from data_contracts.errors import MissingPackage, ModelError
from tasks.curation.filters.base import Filter, Scale
from tasks.runtime import NOT_IDENTITY

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MAX_LOG10 = 300.0
"""Keeps the perplexity of what a model holds for impossible a finite number."""


class Perplexity(Filter):
    """Perplexity per token under an n-gram model that the user gives, in KenLM's ARPA or binary format.

    Each line that is not blank is a sentence of its own: 10 ^ (-(sum of the log10 probabilities of its tokens and of
    its end) / (number of tokens and ends)), taken over all lines; 0 for a text without tokens. `tokens` must be what
    the model was trained on: characters without white space, or words (MeCab with unidic-lite, extra `words`). Needs
    the optional package of the extra `perplexity`. Unit: perplexity. Default: none, as figures of two models cannot be
    compared; `try-filters` on a sample shows where to cut. Source: the sum over lines is CCNet's (Wenzek et al. 2020),
    whose model and cut are per language; Heafield 2011 for KenLM.
    """

    unit: ClassVar[str] = "perplexity per token"
    scale: ClassVar[Scale] = "count"

    holds_lock: ClassVar[bool] = True

    filter: Literal["perplexity"] = "perplexity"
    language_model: Path = Field(description="KenLM model, ARPA or binary.", json_schema_extra=NOT_IDENTITY)
    tokens: Literal["characters", "words"] = Field(default="characters", description="Tokens that the model knows.")
    max_perplexity: float = Field(gt=0, description="Largest perplexity that stays.")
    min_perplexity: float = Field(default=0.0, ge=0, description="Smallest perplexity that stays.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_perplexity < self.min_perplexity:
            raise ValueError(f"max_perplexity {self.max_perplexity} is below min_perplexity {self.min_perplexity}")
        return self

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return self.min_perplexity, self.max_perplexity

    def outside_files(self) -> dict[str, Path]:
        return {"language_model": self.language_model}

    def scores(self, texts: pa.Array) -> np.ndarray:
        import numpy as np

        status = self.language_model.stat()
        model = _model(self.language_model, status.st_size, status.st_mtime_ns)
        scores = (self._perplexity(model, text) for text in texts.to_pylist())
        return np.fromiter(scores, dtype=np.float64, count=len(texts))

    def _perplexity(self, model: Any, text: str) -> float:
        log10, num_tokens = 0.0, 0
        # A NUL would end the sentence for the model, which reads C strings.
        for line in text.replace("\0", " ").split("\n"):
            tokens = self._tokens(line)
            if tokens:
                log10 += model.score(" ".join(tokens))
                num_tokens += len(tokens) + 1
        return 10 ** min(-log10 / num_tokens, MAX_LOG10) if num_tokens else 0.0

    def _tokens(self, line: str) -> list[str]:
        if self.tokens == "characters":
            return list("".join(line.split()))
        from tasks.curation.words import split_words

        return split_words(line, self.filter)


@lru_cache(maxsize=1)
def _model(path: Path, _size_bytes: int, _changed_ns: int) -> Any:
    """The model at a path; size and time tell one file there from its successor."""
    try:
        import kenlm
    except ImportError as error:
        raise MissingPackage.of("perplexity", "kenlm", "perplexity") from error
    config = kenlm.Config()
    config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
    try:
        return kenlm.Model(str(path), config)
    except OSError as error:
        raise ModelError(
            f"`{path}`: KenLM could not read it ({error}), expected an ARPA or binary model",
            hint="set `language_model` to a model made by KenLM's lmplz or build_binary",
        ) from error
