"""The three models side by side: figures of `evaluation.json`, generations, and what changed from base to tuned."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.deliver.formats import DASH, change, number, percent, size

MODELS = ("base", "continued", "tuned")


@dataclass(frozen=True)
class Measure:
    """A figure that every model has. path: where it stands in a model's figures. better: "lower" or "higher"."""

    label: str
    path: tuple[str, ...]
    better: str
    share: bool = False

    def show(self, value: Any) -> str:
        return percent(value) if self.share else number(value)


JAPANESE = Measure("Japanese perplexity", ("japanese", "perplexity"), "lower")
ENGLISH = Measure("English perplexity", ("english", "perplexity"), "lower")
JAPANESE_BITS = Measure("Japanese bits per character", ("japanese", "bits_per_character"), "lower")
ENGLISH_BITS = Measure("English bits per character", ("english", "bits_per_character"), "lower")
CLOZE = Measure("Cloze accuracy", ("cloze", "accuracy"), "higher", share=True)
QUESTIONS = Measure("Questions answered exactly", ("questions", "exact_match"), "higher", share=True)

MEASURES = (
    Measure("Japanese loss (nats per token)", ("japanese", "loss"), "lower"),
    JAPANESE,
    JAPANESE_BITS,
    Measure("English loss (nats per token)", ("english", "loss"), "lower"),
    ENGLISH,
    ENGLISH_BITS,
    CLOZE,
    QUESTIONS,
)


@dataclass(frozen=True)
class Comparison:
    models: dict[str, dict[str, Any]]
    generations: list[dict[str, str]]
    speed: dict[str, dict[str, Any]]

    def value(self, model: str, *path: str) -> float | None:
        """A figure of a model, None where it is absent or no number."""
        found: Any = self.models.get(model)
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
            return None
        return found

    def values(self, measure: Measure) -> list[float | None]:
        return [self.value(model, *measure.path) for model in MODELS]

    def rows(self) -> list[dict[str, Any]]:
        """One row a measure: its label, which way is better, the figures as text, base to tuned as text and verdict."""
        return [self._row(measure) for measure in MEASURES]

    def _row(self, measure: Measure) -> dict[str, Any]:
        values = self.values(measure)
        return {
            "label": measure.label,
            "better": measure.better,
            "cells": [measure.show(value) for value in values],
            "change": _difference(measure, values[0], values[-1]),
            "verdict": verdict(measure, values[0], values[-1]),
        }

    def prompts(self) -> list[dict[str, Any]]:
        """Each prompt once, with what every model wrote; None where a model wrote nothing."""
        found: dict[str, dict[str, str]] = {}
        for row in self.generations:
            found.setdefault(row["prompt"], {})[row["model"]] = row["text"]
        return [{"prompt": p, "texts": [texts.get(model) for model in MODELS]} for p, texts in found.items()]

    def questions(self) -> list[dict[str, Any]]:
        """Each question of the examples with the expected answer and every model's."""
        found: dict[str, dict[str, Any]] = {}
        for model in MODELS:
            questions = (self.models.get(model) or {}).get("questions") or {}
            for example in questions.get("examples") or []:
                prompt = str(example.get("prompt", ""))
                row = found.setdefault(prompt, {"prompt": prompt, "expected": example.get("expected"), "answers": {}})
                row["answers"][model] = example.get("answer")
        return [{**row, "answers": [row["answers"].get(model) for model in MODELS]} for row in found.values()]

    def speeds(self) -> list[dict[str, Any]]:
        """Speed and memory of each model, as text."""
        rows = (
            ("Tokens per second", "tokens_per_second", number),
            ("Peak memory", "peak_memory_bytes", size),
            ("Load time (seconds)", "load_seconds", number),
        )
        return [
            {"label": label, "cells": [show((self.speed.get(model) or {}).get(name)) for model in MODELS]}
            for label, name, show in rows
        ]


def read_comparison(artifact: Path) -> Comparison:
    """The evaluation artifact's figures, generations and speeds; parts that are absent are empty."""
    evaluation = _json(artifact / "evaluation.json")
    rows = [json.loads(line) for line in _lines(artifact / "generations.jsonl")]
    generations = [{name: str(row.get(name, "")) for name in ("model", "prompt", "text")} for row in rows]
    return Comparison(evaluation.get("models") or {}, generations, _json(artifact / "logs" / "speed.json"))


def verdict(measure: Measure, before: float | None, after: float | None) -> str:
    """`better`, `worse`, `equal`, or empty when it cannot be said."""
    if before is None or after is None:
        return ""
    if after == before:
        return "equal"
    return "better" if (after < before) == (measure.better == "lower") else "worse"


def _difference(measure: Measure, before: float | None, after: float | None) -> str:
    """Relative change, or points for a measure that is a share itself."""
    if not measure.share or before is None or after is None:
        return change(before, after)
    points = 100 * (after - before)
    return f"{points:+.1f} points".replace("-", "\u2212") if abs(points) >= 0.05 else "±0.0 points"


def gain_sentence(comparison: Comparison) -> str:
    """What Japanese gained, base to tuned, in one sentence."""
    before, _, after = comparison.values(JAPANESE)
    said = {"better": "Japanese improved", "worse": "Japanese became worse", "equal": "Japanese did not change"}
    return _sentence(said, JAPANESE, before, after, "No Japanese figure was measured, so no gain can be stated")


def forgetting_sentence(comparison: Comparison) -> str:
    """What English lost, base to tuned, in one sentence."""
    before, _, after = comparison.values(ENGLISH)
    said = {
        "better": "No forgetting measured: English improved as well",
        "worse": "Forgetting: English became worse",
        "equal": "No forgetting measured: English did not change",
    }
    return _sentence(said, ENGLISH, before, after, "No English figure was measured, so forgetting is unknown")


def _sentence(said: dict[str, str], measure: Measure, before: float | None, after: float | None, absent: str) -> str:
    judged = verdict(measure, before, after)
    if not judged:
        return f"{absent} ({DASH})."
    return f"{said[judged]}: perplexity {number(before)} → {number(after)} ({change(before, after)})."


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _lines(path: Path) -> list[str]:
    content = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [line for line in content.split("\n") if line.strip()]
