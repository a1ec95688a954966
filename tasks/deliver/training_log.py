"""The course of a training as its `logs/metrics.jsonl` tells it; rows of any kind, fields that may be absent."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

Series = list[tuple[float, float]]

MEASURES = ("loss", "validation_loss", "learning_rate", "tokens_per_second", "tokens_consumed")


@dataclass(frozen=True)
class TrainingLog:
    """Per measure the points (step, value) in the order of the steps."""

    series: dict[str, Series]

    def __getitem__(self, measure: str) -> Series:
        return self.series.get(measure, [])

    def last(self, measure: str) -> float | None:
        points = self[measure]
        return points[-1][1] if points else None

    def median(self, measure: str) -> float | None:
        values = sorted(value for _, value in self[measure])
        return values[len(values) // 2] if values else None


def read_training_log(artifact: Path) -> TrainingLog:
    """The log of a trained model or adapter; empty series where it has none."""
    path = artifact / "logs" / "metrics.jsonl"
    points: dict[str, dict[float, float]] = {measure: {} for measure in MEASURES}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for line in lines:
        row = _parsed(line)
        step = _finite(row.get("step"))
        for measure in MEASURES:
            value = _finite(row.get(measure))
            if step is not None and value is not None:
                # A resumed training writes the steps after its checkpoint again; the last word counts.
                points[measure][step] = value
    return TrainingLog({measure: sorted(found.items()) for measure, found in points.items()})


def _parsed(line: str) -> dict[str, object]:
    """The row; an empty one for the line that a killed training left unfinished."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
