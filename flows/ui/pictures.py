"""Pictures for the Prefect UI: the charts of the report as SVG that stands alone, in `data:` addresses.

The UI shows such an address inside of Markdown, in dark and light themes alike; scripts in a picture never run.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from tasks.deliver.charts import HEIGHT, WIDTH, Line, line_chart
from tasks.deliver.formats import number
from tasks.deliver.funnel import FunnelStep
from tasks.deliver.thresholds import score_histograms
from tasks.deliver.training_log import read_training_log

MAX_CHARTS = 24
GAP, HEAD = 18, 34
CELL_WIDTH, CELL_HEIGHT = WIDTH + GAP, HEIGHT + HEAD
STYLE = Markup("""
svg{font-family:system-ui,"Noto Sans CJK JP",sans-serif;font-size:12px;fill:#5b6373}
.paper{fill:#fbfaf7}.title{font-size:14px;font-weight:600;fill:#1b2130}
.grid{stroke:#ecebe5}.axis{stroke:#e3e0d8}.curve{fill:none;stroke-width:2;stroke-linejoin:round;stroke:#2b4c8c}
.dot,.kept,.train{fill:#2b4c8c}.curve.validation{stroke:#c8452f}.dot.validation,.removed,.validation{fill:#c8452f}
.curve.train,.curve.validation{fill:none}.curve.rate{stroke:#b98216}.dot.rate{fill:#b98216}
.quarantined{fill:#b98216}.unsampled{fill:#b4b5b8}.blank,.bin{fill:#a9bbdc}.bin.out{fill:#c8452f}
line.cut{stroke:#c8452f;stroke-width:1.5;stroke-dasharray:4 3}text.cut{fill:#c8452f;font-weight:600}
""")
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
TOOLTIP = re.compile(r"<title>.*?</title>", re.DOTALL)
BAR_LEFT, BAR_WIDTH, ROW = 130, 520, 46


def score_pictures(corpus: Path) -> dict[str, str]:
    """Histograms of the scores that each filter saw, with its cut; what lies beyond the cut is red."""
    charts = [(f"{found.label}: {found.bounds}", [], found.svg) for found in score_histograms(corpus)[:MAX_CHARTS]]
    return {"Scores that the filters saw, and where they cut": _side_by_side(charts, 3)} if charts else {}


def training_pictures(artifact: Path) -> dict[str, str]:
    """Curves of loss and learning rate of a trained model or adapter."""
    log = read_training_log(artifact)
    loss = [Line("training", "train", log["loss"]), Line("validation", "validation", log["validation_loss"])]
    rate = [Line("learning rate", "rate", log["learning_rate"])]
    drawn = [
        ("Loss", loss, line_chart("Loss", loss)),
        ("Learning rate", [], line_chart("Learning rate", rate, from_zero=True)),
    ]
    charts = [(title, lines, svg) for title, lines, svg in drawn if svg is not None]
    return {"Loss and learning rate": _side_by_side(charts, 2)} if charts else {}


def funnel_picture(steps: Sequence[FunnelStep]) -> dict[str, str]:
    """Documents from stage to stage: what was kept, removed, put in quarantine or not drawn."""
    widest = max([step.num_in or 0 for step in steps] + [1])
    rows = [_funnel_row(step, index, widest) for index, step in enumerate(steps)]
    size = (BAR_LEFT + BAR_WIDTH + 2 * GAP, len(rows) * ROW + GAP)
    return {"What became of the documents": _address(Markup("").join(rows), *size)}


def _funnel_row(step: FunnelStep, index: int, widest: int) -> Markup:
    top, left, parts = index * ROW + GAP, float(BAR_LEFT), []
    for part in step.parts:
        width = part.count / widest * BAR_WIDTH
        rect = Markup('<rect class="{}" x="{:.1f}" y="{}" width="{:.1f}" height="16"/>')
        parts.append(rect.format(part.kind, left, top, max(width - 1, 1.0) if part.count else 0))
        left += width
    told = ", ".join(f"{number(part.count)} {part.label}" for part in step.parts)
    words = Markup('<text class="title" x="{}" y="{}">{}</text><text x="{}" y="{}">{}</text>').format(
        GAP, top + 13, step.title, BAR_LEFT, top + 31, "; ".join(filter(None, (told, step.note, *step.problems)))
    )
    return Markup("").join([*parts, words])


def _side_by_side(charts: Sequence[tuple[str, list[Line], Markup]], columns: int) -> str:
    columns = min(columns, len(charts))
    cells = [
        _cell(title, lines, svg, index % columns * CELL_WIDTH + GAP, index // columns * CELL_HEIGHT)
        for index, (title, lines, svg) in enumerate(charts)
    ]
    num_rows = -(-len(charts) // columns)
    return _address(Markup("").join(cells), columns * CELL_WIDTH + GAP, num_rows * CELL_HEIGHT + GAP)


def _cell(title: str, lines: list[Line], svg: Markup, left: int, top: int) -> Markup:
    start = Markup('<svg x="{}" y="{}" width="{}" height="{}" ').format(left, top + HEAD, WIDTH, HEIGHT)
    placed = svg.replace("<svg ", start, 1)
    head = Markup('<text class="title" x="{}" y="{}">{}</text>').format(left, top + HEAD - 10, title)
    names = Markup("").join(
        Markup('<text class="{}" x="{}" y="{}">{}</text>').format(
            line.kind, left + 110 + 90 * index, top + 24, line.label
        )
        for index, line in enumerate(line for line in lines if line.points)
    )
    return head + names + placed


def _address(inside: Markup, width: int, height: int) -> str:
    # The width that it is drawn with, not more: the UI scales down what does not fit.
    svg = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}"><style>{2}</style>'
        '<rect class="paper" width="{0}" height="{1}" rx="8"/>{3}</svg>'
    ).format(width, height, STYLE, inside)
    plain = NOT_XML.sub("", TOOLTIP.sub("", svg))
    return "data:image/svg+xml;base64," + base64.b64encode(plain.encode()).decode()
