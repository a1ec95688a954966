"""`tsuzuki try-filters`: a cascade on a sample of a file, before anyone runs it on everything."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from data_contracts.errors import DataError
from tasks.acquire.config import LocalSource
from tasks.acquire.local import find_files
from tasks.acquire.reading import documents_of
from tasks.curation.config import FilterConfig
from tasks.curation.trial import QUANTILES, Trial, try_cascade

EXCERPT_CHARACTERS = 120


def try_filters(config: FilterConfig, path: Path, num_documents: int, num_examples: int) -> tuple[int, list[Trial]]:
    """How many documents were read, the first `num_documents` of a file, folder or glob, and the trial of each step.

    Lines that are no documents are left out: acquire counts and quarantines them; here only filters are tried.

    Raises SourceError for a path that cannot be read, DataError when it holds no document.
    """
    source = LocalSource(path=path)
    everything = (row for file in find_files(source) for row in documents_of(file, "sample", source))
    rows = list(islice(everything, num_documents))
    if not rows:
        raise DataError(f"`{path}`: no readable document, expected JSON lines or parquet with a text field")
    ids, texts = (list(column) for column in list(zip(*rows, strict=True))[:2])
    return len(rows), try_cascade(config, ids, texts, num_examples)


def as_text(num_documents: int, trials: list[Trial]) -> str:
    """The trials for people: a table, then the documents nearest to each bound."""
    removed = sum(trial.num_removed for trial in trials)
    share = removed / num_documents
    lines = [
        f"{num_documents:,} documents: {num_documents - removed:,} stay, {removed:,} go ({share:.1%})",
        f"{'step':<34} {'saw':>8} {'removed':>8} {'':>6} {'edited':>7}  bounds and quantiles of the score",
    ]
    lines += [_row(trial) for trial in trials]
    for trial in trials:
        lines += [_example(trial, example) for example in trial.examples]
    return "\n".join(lines)


def _row(trial: Trial) -> str:
    bounds = f"[{_figure(trial.lower)} .. {_figure(trial.upper)}]"
    quantiles = " ".join(f"{q:.0%} {value:.4g}" for q, value in zip(QUANTILES, trial.quantiles, strict=False))
    share = trial.num_removed / max(1, trial.num_seen)
    head = f"{trial.step + 1:>2} {trial.label:<31} {trial.num_seen:>8,} {trial.num_removed:>8,} {share:>6.1%}"
    return f"{head} {trial.num_edited:>7,}  {bounds} {quantiles}"


def _figure(bound: float | None) -> str:
    return "" if bound is None else f"{bound:.6g}"


def _example(trial: Trial, example: dict[str, Any]) -> str:
    text = " ".join(example["text"].split())[:EXCERPT_CHARACTERS]
    fate = "goes " if example["removed"] else "stays"
    return f"{trial.label} {fate} {example['score']:.4g} {example['id']}: {text}"
