"""What the models are measured on: held-out documents, facts to complete and questions, drawn without favour."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq

from data_contracts.artifacts import Corpus, InstructionSet, RawCorpus
from data_contracts.errors import DataError
from tasks.evaluate.config import EvaluateConfig

T = TypeVar("T")


def gather(
    config: EvaluateConfig, corpus: Corpus, raw: RawCorpus, instructions: InstructionSet
) -> dict[str, list[Any]]:
    """`documents` (texts), `cloze` ({prompt, answer, choices}) and `questions` ({prompt, response}) as plain JSON.

    Raises DataError when no held-out document is left.
    """
    questions = list(_rows(instructions.path / "validation.jsonl"))
    used = {row.get("document") for row in [*_rows(instructions.path / "train.jsonl"), *questions]}
    facts = [row for row in _rows(raw.path / "truth" / "facts.jsonl") if row.get("choices")]
    return {
        "documents": _documents(config, corpus, used),
        "cloze": [
            {"prompt": row["prompt"], "answer": row["answer"], "choices": list(row["choices"])}
            for row in drawn(facts, config.max_cloze_questions, lambda row: row["prompt"] + row["answer"])
        ],
        "questions": [
            {"prompt": row["prompt"], "response": row["response"]}
            for row in drawn(questions, config.max_questions, lambda row: row["prompt"] + row["response"])
        ],
    }


def drawn(items: list[T], limit: int, name: Callable[[T], str]) -> list[T]:
    """At most `limit` items in the order of the sha256 of their names: a draw that does not depend on their order."""
    return sorted(items, key=lambda item: (hashlib.sha256(name(item).encode()).digest(), name(item)))[:limit]


def _documents(config: EvaluateConfig, corpus: Corpus, used: set[Any]) -> list[str]:
    rows, num_held_out = [], 0
    for shard in corpus.shards("validation"):
        table = pq.read_table(shard, columns=["id", "text"])
        num_held_out += table.num_rows
        rows += [row for row in table.to_pylist() if row["id"] not in used and row["text"]]
    if not rows:
        raise DataError(
            f"`{corpus.path}`: none of {num_held_out} validation documents is left beside the instructions'",
            hint="hold out a larger share in the split, or take fewer instruction pairs",
        )
    chosen = drawn(rows, config.max_documents, lambda row: row["id"])
    return [row["text"][: config.max_document_characters] for row in chosen]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON Lines file; none where there is no such file."""
    if path.is_file():
        with open(path, encoding="utf-8") as file:
            yield from (json.loads(line) for line in file if line.strip())
