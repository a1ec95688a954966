"""Log probabilities of the words of paragraphs, by Sudachi and KenLM."""

# pyright: reportMissingImports=false
# kenlm, sudachipy and a dictionary are optional packages.
from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_contracts.errors import ConfigError, MissingPackage
from tasks.curation.uzushio.cleaning import LINK_END, LINK_START
from tasks.curation.uzushio.paragraphs import Documents
from tasks.curation.uzushio.perplexity import LanguageModel, installed_dictionary

SENTENCE = re.compile("[^\n。、！？!?]*[\n。、！？!?]|[^\n。、！？!?]+")
MAX_SENTENCE_UNITS = 16_383
"""One less than in Uzushio: three bytes each are the 49,149 bytes that Sudachi takes at most."""

NO_WORDS = {LINK_START, LINK_END, "\n"}


def scores_of(model: LanguageModel, documents: Documents, wanted: np.ndarray) -> np.ndarray:
    """(paragraphs,) float64 mean log10 probability of each paragraph of the mask, 0 for the others.

    Raises MissingPackage naming the extra, ConfigError for a model or dictionary that cannot be read.
    """
    tokenizer, language_model = open_tokenizer(model.sudachi), open_model(model.kenlm)
    scores = np.zeros(len(wanted), dtype=np.float64)
    for row in np.flatnonzero(wanted).tolist():
        logs: list[float] = []
        for sentence in sentences(documents.texts[row].as_py()):
            logs = [] if model.as_upstream else logs
            logs += _word_logs(language_model, _words(tokenizer, sentence))
        scores[row] = trimmed_mean(logs, model.outliers)
    return scores


def sentences(text: str) -> Iterator[str]:
    """The text cut behind each of the marks `\\n 。 、 ！ ？ ! ?`, and where it grows too long."""
    for sentence in SENTENCE.findall(text):
        while len(sentence) > MAX_SENTENCE_UNITS // 2 and (head := _head(sentence)) != sentence:
            yield head
            sentence = sentence[len(head) :]
        yield sentence


def trimmed_mean(logs: list[float], outliers: float) -> float:
    """The mean without floor(n x outliers / 2) values at either end, if outliers is at least 0.001; 0 of nothing.

    Which words the Java binding of KenLM leaves out does not show in Uzushio's sources; this is our reading.
    """
    if not logs:
        return 0.0
    cut = int(len(logs) * outliers / 2) if outliers >= 1e-3 else 0
    kept = sorted(logs)[cut : len(logs) - cut]
    return sum(kept) / len(kept)


@lru_cache(maxsize=2)
def open_tokenizer(dictionary: Path | None) -> Any:
    try:
        import sudachipy
    except ImportError:
        raise MissingPackage.of("KenLM filters of uzushio", "sudachipy", "sudachi") from None
    file = dictionary or installed_dictionary()
    if file is None:
        raise MissingPackage.of("KenLM filters of uzushio", "sudachidict_core", "sudachi")
    try:
        return sudachipy.Dictionary(dict=str(file)).tokenizer()
    except Exception as error:  # sudachipy raises its own kinds from Rust
        raise ConfigError(f"`{file}`: {error}; expected a Sudachi dictionary") from None


@lru_cache(maxsize=2)
def open_model(path: Path) -> Any:
    try:
        import kenlm
    except ImportError:
        raise MissingPackage.of("KenLM filters of uzushio", "kenlm", "perplexity") from None
    try:
        return kenlm.Model(str(path))
    except OSError as error:
        raise ConfigError(f"`{path}`: {error}; expected a KenLM model") from None


def _head(sentence: str) -> str:
    """The longest beginning of at most MAX_SENTENCE_UNITS UTF-16 units."""
    units = sentence.encode("utf-16-le")[: 2 * MAX_SENTENCE_UNITS]
    return units.decode("utf-16-le", errors="ignore")


def _words(tokenizer: Any, sentence: str) -> list[str]:
    morphemes = tokenizer.tokenize(sentence)
    return [m.surface() for m in morphemes if m.normalized_form() != " " and m.surface() not in NO_WORDS]


def _word_logs(model: Any, words: list[str]) -> list[float]:
    """log10 probability of each word after those before it; the sentence begins with the model's begin mark."""
    import kenlm

    before, after = kenlm.State(), kenlm.State()
    model.BeginSentenceWrite(before)
    logs = []
    for word in words:
        logs.append(model.BaseScore(before, word, after))
        before, after = after, before
    return logs
