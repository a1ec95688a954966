"""The stage that makes prompt and response pairs: from your file, from held-out documents, or from the sample."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from data_contracts.artifacts import Corpus, RawCorpus
from data_contracts.errors import ConfigError, DataError
from data_contracts.files import hash_file
from data_contracts.manifest import Summary
from tasks.training.config import InstructionsConfig
from tasks.training.instruction_rows import prompt_of, row_pair
from tasks.workspace import Workspace

TEMPLATE_INSTRUCTION = "次の文に続けて、その内容を説明してください。"
SENTENCE = re.compile(r"[^。]*。")
SAMPLE_QUESTIONS = "truth/questions.jsonl"
NUM_EXAMPLES = 3


class Row(NamedTuple):
    """A pair, the document it was taken from (or nothing), and whether it is held out (None: by hash)."""

    prompt: str
    response: str
    document: str = ""
    held_out: bool | None = None


def outside_digests(config: InstructionsConfig) -> dict[str, str]:
    """The content of the user's file, if one is given. Raises ConfigError if it is not there."""
    if config.path is None:
        return {}
    if not config.path.is_file():
        raise ConfigError(f"`{config.path}`: no such file, expected JSONL", hint="set `instructions.path` to your file")
    return {"instructions": hash_file(config.path).sha256}


def make_instructions(config: InstructionsConfig, workspace: Workspace, raw: RawCorpus, corpus: Corpus) -> Summary:
    """Leaves `train.jsonl` and `validation.jsonl` of {"prompt", "response", "document"}.

    A prompt is never in both. Raises DataError for bad rows above the limit, for a corpus without sample questions
    when they are asked for, and for too few pairs.
    """
    kind = _kind(config, raw)
    makers: dict[str, Callable[[], tuple[list[Row], dict[str, int]]]] = {
        "jsonl": lambda: _from_jsonl(config),
        "sample": lambda: _from_sample(raw.path / SAMPLE_QUESTIONS),
        "template": lambda: _from_template(config, corpus),
    }
    found, counts = makers[kind]()
    rows = _limited(list({row.prompt: row for row in reversed(found)}.values())[::-1], config)
    counts |= {"pairs_found": len(found), "pairs_same_prompt": len(found) - len({row.prompt for row in found})}
    splits = _divided(rows, config)
    _check_enough(splits, kind, config)
    for split, members in splits.items():
        lines = [{"prompt": row.prompt, "response": row.response, "document": row.document} for row in members]
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        workspace.write_bytes(f"{split}.jsonl", content.encode())
        counts[f"pairs_{split}"] = len(members)
    documents = {row.document for row in rows if row.document}
    workspace.progress(len(rows), len(rows), unit="pairs")
    return Summary(
        counts={**counts, "pairs": len(rows), "documents_used": len(documents)},
        proofs={"kind": kind, "prompts_in_both_splits": 0},
        examples=[{"prompt": row.prompt, "response": row.response} for row in rows[:NUM_EXAMPLES]],
    )


def _kind(config: InstructionsConfig, raw: RawCorpus) -> str:
    if config.kind != "auto":
        return config.kind
    if config.path:
        return "jsonl"
    return "sample" if (raw.path / SAMPLE_QUESTIONS).is_file() else "template"


def _from_jsonl(config: InstructionsConfig) -> tuple[list[Row], dict[str, int]]:
    assert config.path is not None
    rows, bad = [], 0
    for number, line in _lines(config.path):
        try:
            rows.append(Row(*row_pair(line)))
        except ValueError as error:
            bad += 1
            if bad > config.max_bad_rows:
                raise DataError(
                    f"`{config.path}`: line {number}: {error} ({bad} bad rows, at most {config.max_bad_rows} allowed)",
                    hint='rows are {"instruction", "input", "output"} or {"messages": [{"role", "content"}, ...]}; '
                    "mend the line or raise `instructions.max_bad_rows`",
                ) from None
    return rows, {"rows_bad": bad}


def _from_sample(path: Path) -> tuple[list[Row], dict[str, int]]:
    if not path.is_file():
        raise DataError(
            f"`{path}`: missing; only the bundled sample has questions", hint="use kind template, jsonl or auto"
        )
    rows = []
    for _, line in _lines(path):
        row = json.loads(line)
        prompt = prompt_of(row["instruction"], row["input"])
        rows.append(Row(prompt, row["output"], row.get("document", ""), bool(row["held_out"])))
    return rows, {}


def _from_template(config: InstructionsConfig, corpus: Corpus) -> tuple[list[Row], dict[str, int]]:
    """First sentence as input, the next two as response, over the documents that the hash puts first."""
    documents = []
    for shard in corpus.shards("validation"):
        table = pq.read_table(shard, columns=["id", "text"])
        documents.extend(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
    documents.sort(key=lambda document: _hash(config.seed, document[0]))
    chosen = documents[: int(len(documents) * config.template_share)]
    rows = []
    for identifier, text in chosen:
        sentences = [sentence.strip() for sentence in SENTENCE.findall(text)]
        sentences = [sentence for sentence in sentences if sentence != "。" and sentence]
        if len(sentences) >= 3:
            prompt = prompt_of(TEMPLATE_INSTRUCTION, sentences[0])
            rows.append(Row(prompt, "".join(sentences[1:3]), identifier))
    counts = {"documents_validation": len(documents), "documents_too_short": len(chosen) - len(rows)}
    return rows, counts


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, numbered from 1."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def _hash(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}:{text}".encode()).digest()


def _limited(rows: list[Row], config: InstructionsConfig) -> list[Row]:
    """At most max_pairs rows, in their order; which ones is up to the hash."""
    if config.max_pairs is None or len(rows) <= config.max_pairs:
        return rows
    ranked = sorted(rows, key=lambda row: _hash(config.seed, row.prompt))
    kept = {row.prompt for row in ranked[: config.max_pairs]}
    return [row for row in rows if row.prompt in kept]


def _divided(rows: list[Row], config: InstructionsConfig) -> dict[str, list[Row]]:
    """Train and validation: as the rows say, otherwise validation_share of them by hash, at least one."""
    open_rows = [row for row in rows if row.held_out is None]
    ranked = sorted(open_rows, key=lambda row: _hash(config.seed + 1, row.prompt))
    held = {row.prompt for row in ranked[: max(1, round(len(ranked) * config.validation_share))]}
    held |= {row.prompt for row in rows if row.held_out}
    return {
        "train": [row for row in rows if row.prompt not in held],
        "validation": [row for row in rows if row.prompt in held],
    }


def _check_enough(splits: dict[str, list[Row]], kind: str, config: InstructionsConfig) -> None:
    total = sum(map(len, splits.values()))
    if total < config.min_pairs or not all(splits.values()):
        raise DataError(
            f"`instructions`: {len(splits['train'])} training and {len(splits['validation'])} validation pairs of kind "
            f"{kind}, expected at least {config.min_pairs} together and one of each",
            hint="use more documents or a larger validation split, another `instructions.kind`, or lower min_pairs",
        )
