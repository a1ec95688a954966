"""Line charts and bars as inline SVG whose colours come from the page's style sheet."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup, escape

from tasks.deliver.formats import compact
from tasks.deliver.training_log import Series

WIDTH, HEIGHT = 400, 236
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 16, 36
MAX_POINTS = 400


@dataclass(frozen=True)
class Line:
    """One curve. kind: its style class (`train`, `validation`, `rate`, `speed`)."""

    label: str
    kind: str
    points: Series


@dataclass(frozen=True)
class Scale:
    """A range of values laid on a range of the drawing."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / span * (self.stop - self.start)


def line_chart(title: str, lines: list[Line], *, from_zero: bool = False, over: str = "step") -> Markup | None:
    """A chart over training steps or something else, None when no line has a point."""
    lines = [Line(line.label, line.kind, thinned(line.points)) for line in lines if line.points]
    if not lines:
        return None
    x_ticks, x = _axis([step for line in lines for step, _ in line.points], LEFT, WIDTH - RIGHT, whole=over == "step")
    values = [value for line in lines for _, value in line.points]
    y_ticks, y = _axis([*values, 0.0] if from_zero else values, HEIGHT - BOTTOM, TOP)
    label = f"{title}: " + "; ".join(_spoken(line, over) for line in lines)
    parts = [_y_axis(y_ticks, y), _x_axis(x_ticks, x, over), *(_curve(line, x, y, over) for line in lines)]
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, label, Markup("").join(parts)
    )


def thinned(points: Series) -> Series:
    """At most MAX_POINTS points, evenly chosen, the first and the last among them."""
    if len(points) <= MAX_POINTS:
        return points
    step = (len(points) - 1) / (MAX_POINTS - 1)
    return [points[round(index * step)] for index in range(MAX_POINTS)]


def ticks(low: float, high: float, wanted: int = 4, *, whole: bool = False) -> list[float]:
    """Round numbers that cover [low, high], about `wanted` intervals of 1, 2, 2.5 or 5 times a power of ten."""
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-9):  # a point, as far as a drawing can tell
        high = low + (abs(low) if abs(low) > 1e-9 else 1.0)
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    step = max(1.0, math.ceil(step)) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _axis(values: list[float], start: float, stop: float, *, whole: bool = False) -> tuple[list[float], Scale]:
    marks = ticks(min(values), max(values), whole=whole)
    return marks, Scale(marks[0], marks[-1], start, stop)


def _y_axis(marks: list[float], y: Scale) -> Markup:
    row = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/><text x="{}" y="{:.1f}" {}>{}</text>')
    end = Markup('text-anchor="end"')
    return Markup("").join(
        row.format(LEFT, WIDTH - RIGHT, y(mark), y(mark), LEFT - 7, y(mark) + 4, end, compact(mark)) for mark in marks
    )


def _x_axis(marks: list[float], x: Scale, over: str) -> Markup:
    base = HEIGHT - BOTTOM
    tick = Markup('<line class="axis" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>')
    text = Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>')
    parts = [Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, base, base)]
    for mark in marks:
        parts += [tick.format(x(mark), base, base + 4), text.format(x(mark), base + 17, compact(mark))]
    parts.append(
        Markup('<text class="unit" x="{}" y="{}" text-anchor="end">{}</text>').format(WIDTH - RIGHT, HEIGHT - 3, over)
    )
    return Markup("").join(parts)


def _curve(line: Line, x: Scale, y: Scale, over: str) -> Markup:
    path = "M" + "L".join(f"{x(step):.1f} {y(value):.1f}" for step, value in line.points)
    last_step, last_value = line.points[-1]
    dots = line.points if len(line.points) <= 12 else line.points[-1:]
    dot = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2.6"/>')
    drawn = Markup("").join(dot.format(line.kind, x(step), y(value)) for step, value in dots)
    tip = Markup("<title>{}: {} at {} {}</title>").format(line.label, compact(last_value), over, compact(last_step))
    return Markup('<g><path class="curve {}" d="{}"/>{}{}</g>').format(line.kind, path, drawn, tip)


def _spoken(line: Line, over: str) -> str:
    first, last = (f"{compact(value)} at {over} {compact(step)}" for step, value in (line.points[0], line.points[-1]))
    return f"{line.label} from {first} to {last}"


def bars(title: str, rows: list[tuple[str, float | None, str]]) -> Markup | None:
    """Horizontal bars (label, value, value as text) from zero, None when no row has a value."""
    known = [value for _, value, _ in rows if value is not None]
    if not known:
        return None
    scale = Scale(0.0, max(known) or 1.0, 0.0, 190.0)
    spoken = f"{title}: " + ", ".join(f"{label} {shown}" for label, _, shown in rows)
    row_height, drawn = 30, []
    for index, (label, value, shown) in enumerate(rows):
        top = index * row_height
        width = 0.0 if value is None else max(1.5, scale(value))
        drawn.append(
            Markup(
                '<text x="0" y="{}">{}</text><rect class="bar m{}" x="76" y="{}" width="{:.1f}" height="16" rx="2"/>'
                '<text class="figure" x="{:.1f}" y="{}">{}</text>'
            ).format(top + 17, label, index, top + 5, width, 76 + width + 7, top + 17, shown)
        )
    return Markup('<svg class="chart bars" viewBox="0 0 340 {}" role="img" aria-label="{}">{}</svg>').format(
        len(rows) * row_height, escape(spoken), Markup("").join(drawn)
    )
