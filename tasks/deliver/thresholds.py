"""The threshold report: for each filter a histogram of the scores it saw, with the cut drawn; and dedup's recall."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tasks.deliver.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, Scale, line_chart
from tasks.deliver.formats import compact, number
from tasks.deliver.lineage import Lineage

BASE = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Threshold:
    """One filter: its bounds in words, how many documents it scored, and the drawing."""

    label: str
    bounds: str
    num_documents: int
    svg: Markup


def thresholds(lineage: Lineage) -> list[Threshold]:
    """Every filter that scored a document, in the order of the cascade."""
    return score_histograms(lineage["filtered"].artifact.path)


def score_histograms(corpus: Path) -> list[Threshold]:
    """The same for the folder of a filtered corpus."""
    path = corpus / "histograms.json"
    if not path.is_file():
        return []
    return [_threshold(row) for row in json.loads(path.read_text(encoding="utf-8"))]


def recall_chart(lineage: Lineage) -> Markup | None:
    """How probably dedup's candidate search finds a pair, by its similarity; none if near-duplicates were kept."""
    proof = lineage["unique"].manifest.summary.proofs.get("near_duplicates", {})
    points = [(float(jaccard), recall) for jaccard, recall in proof.get("expected_recall", {}).items()]
    return line_chart("Recall of near-duplicates", [Line("recall", "train", points)], over="Jaccard similarity")


def _threshold(row: dict[str, Any]) -> Threshold:
    lower, upper = row["lower"], row["upper"]
    words = [
        f"at least {number(lower)}" if lower is not None else "",
        f"at most {number(upper)}" if upper is not None else "",
    ]
    bounds = ", ".join(word for word in words if word) or "no bound"
    return Threshold(row["label"], bounds, sum(row["num_documents"]), _drawing(row))


def _drawing(row: dict[str, Any]) -> Markup:
    """Bars of square-rooted counts, so that a tail of a few documents beside many thousands can be seen."""
    counts, edges = row["num_documents"], row["edges"]
    bounds = [bound for bound in (row["lower"], row["upper"]) if bound is not None]
    first, last = _shown(counts, edges, bounds)
    x = Scale(first, last + 1, LEFT, WIDTH - RIGHT)
    y = Scale(0, math.sqrt(max(counts)), BASE, TOP)
    parts = [_bar(x, y, place, counts[place], _outside(edges, place, row)) for place in range(first, last + 1)]
    parts += [_cut(x(_position(edges, bound)), bound) for bound in bounds]
    parts += [_ticks(x, y, edges, first, last, max(counts))]
    spoken = f"{row['label']}: scores of {sum(counts)} documents, bounds {', '.join(map(number, bounds)) or 'none'}"
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, spoken, Markup("").join(parts)
    )


def _shown(counts: list[int], edges: list[float], bounds: list[float]) -> tuple[int, int]:
    """The bins from the first to the last that hold a document or a bound."""
    used = [place for place, count in enumerate(counts) if count]
    used += [min(len(counts) - 1, int(_position(edges, bound))) for bound in bounds]
    return min(used), max(used)


def _position(edges: list[float], value: float) -> float:
    """Where a score lies among the bins, in bins from the first edge."""
    for place in range(len(edges) - 1):
        if value < edges[place + 1]:
            return place + max(0.0, value - edges[place]) / (edges[place + 1] - edges[place])
    return float(len(edges) - 1)


def _outside(edges: list[float], place: int, row: dict[str, Any]) -> bool:
    """Whether the whole bin lies beyond a bound."""
    above = row["upper"] is not None and edges[place] >= row["upper"] and place > _position(edges, row["upper"])
    below = row["lower"] is not None and place + 1 <= _position(edges, row["lower"])
    return above or below


def _bar(x: Scale, y: Scale, place: int, count: int, outside: bool) -> Markup:
    if not count:
        return Markup("")
    top = y(math.sqrt(count))
    return Markup(
        '<rect class="bin{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
    ).format(
        " out" if outside else "", x(place), top, max(0.8, x(place + 1) - x(place) - 0.4), BASE - top, number(count)
    )


def _cut(place: float, bound: float) -> Markup:
    line = Markup('<line class="cut" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(place, TOP - 4, BASE)
    text = Markup('<text class="cut" x="{:.1f}" y="{}" text-anchor="middle">{}</text>')
    return line + text.format(place, TOP - 6, compact(bound))


def _ticks(x: Scale, y: Scale, edges: list[float], first: int, last: int, most: int) -> Markup:
    line = Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, BASE, BASE)
    step = max(1, (last - first) // 4)
    text = Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>')
    marks = [text.format(x(place), BASE + 17, compact(edges[place])) for place in range(first, last + 1, step)]
    side = Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>')
    marks += [side.format(LEFT - 7, y(math.sqrt(count)) + 4, compact(count)) for count in {most, max(1, most // 4)}]
    return Markup("").join([line, *marks])
