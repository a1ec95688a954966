"""Cloze questions: does the model find the right answer likelier than each wrong one?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from tasks.evaluate.scoring import Row, encode, negative_log_likelihoods, start_token_id
from tasks.models.loading import context_length

DIGITS = 6
NORMALISATION = "log-likelihood of the answer divided by its number of characters"


class Ranking(NamedTuple):
    """Scores of the options of one question, the right one first: sums of ln p, and the same per character."""

    options: list[str]
    sums: list[float]
    per_character: list[float]


def measure_cloze(
    model: PreTrainedModel,
    tokenizer: Any,
    questions: Sequence[dict[str, Any]],
    *,
    batch_tokens: int = 8192,
    num_examples: int = 5,
) -> dict[str, Any] | None:
    """Accuracy over {prompt, answer, choices} rows, where a tie counts as wrong; None without questions.

    chance: expected accuracy of blind guessing. accuracy_unnormalised: the same by the plain sums.
    """
    if not questions:
        return None
    rankings = rank(model, tokenizer, questions, batch_tokens)
    examples = [
        {"prompt": q["prompt"], "expected": q["answer"], "answer": r.options[_best(r.per_character)]}
        for q, r in zip(questions[:num_examples], rankings, strict=False)
    ]
    return {
        "accuracy": round(sum(_is_first_best(r.per_character) for r in rankings) / len(rankings), DIGITS),
        "accuracy_unnormalised": round(sum(_is_first_best(r.sums) for r in rankings) / len(rankings), DIGITS),
        "normalisation": NORMALISATION,
        "num_questions": len(rankings),
        "chance": round(sum(1 / len(r.options) for r in rankings) / len(rankings), DIGITS),
        "examples": examples,
    }


def rank(
    model: PreTrainedModel, tokenizer: Any, questions: Sequence[dict[str, Any]], batch_tokens: int
) -> list[Ranking]:
    """The scores of every option of every question."""
    rows, start, limit = [], start_token_id(tokenizer), context_length(model)
    for question in questions:
        options = [question["answer"], *question["choices"]]
        ids = encode(tokenizer, [question["prompt"], *(question["prompt"] + option for option in options)])
        rows += [
            Row(row.ids[-limit:], max(1, row.num_given - max(0, len(row.ids) - limit))) for row in _rows(ids, start)
        ]
    sums = iter(negative_log_likelihoods(model, rows, batch_tokens))
    rankings = []
    for question in questions:
        options = [question["answer"], *question["choices"]]
        scores = [-next(sums) for _ in options]
        rankings.append(Ranking(options, scores, [s / len(o) for s, o in zip(scores, options, strict=True)]))
    return rankings


def _rows(ids: list[list[int]], start: int) -> list[Row]:
    """Rows of the options, scored from where they first part from the prompt or from each other.

    The last characters of a prompt may melt with the first of an answer into one token. By scoring every option of a
    question from the same token on, all of them are judged on the same text.
    """
    shared = min(_common_prefix(ids[0], option) for option in ids[1:])
    return [Row([start, *option], shared + 1) for option in ids[1:]]


def _common_prefix(left: list[int], right: list[int]) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(left), len(right)))


def _best(scores: list[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


def _is_first_best(scores: list[float]) -> bool:
    return scores[0] > max(scores[1:])
