"""Loss curves of trainings: read from `metrics.jsonl`, compared, and drawn with the charts of the report.

    python tests/benchmarks/nemo_proof/curves.py curves.json FOLDER

draws what the proof left on the machine with the GPU: FOLDER/loss.svg, FOLDER/loss-difference.svg.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, median
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
FLOP_PER_TOKEN = {"qwen": 3.23e9, "smollm2": 1.02e9}
"""Forward and backward with the head and causal attention at sequence 2048."""
PEAK_FLOP_PER_SECOND = 989e12
SETTLED_STEP = 20
STYLE = (
    "<style>svg{background:#fff;font:11px sans-serif}text{fill:#333}.grid{stroke:#ddd}.axis{stroke:#888}"
    ".curve{fill:none;stroke-width:1.4}.train{stroke:#1f5fa8;fill:none}.validation{stroke:#c9481f;fill:none}"
    ".rate{stroke:#2d8a4e;fill:none}.dot{stroke:none}</style>"
)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a training's `metrics.jsonl` that tell of a step."""
    path = folder / "logs" / "metrics.jsonl"
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in found if "loss" in row]


def losses(folder: Path) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in rows(folder)}


def speed(folder: Path, model: str) -> dict[str, Any]:
    """Tokens a second in the median of the steps after the first SETTLED_STEP, and their share of the GPU's peak."""
    found = rows(folder)
    settled = [row["tokens_per_second"] for row in found if row["step"] > SETTLED_STEP] or [
        found[-1]["tokens_per_second"]
    ]
    rate = median(settled)
    share = rate * FLOP_PER_TOKEN[model] / PEAK_FLOP_PER_SECOND
    return {"tokens_per_second": round(rate), "share_of_peak": round(share, 3)}


def difference(left: dict[int, float], right: dict[int, float]) -> dict[str, Any]:
    """How far two curves are apart, over the steps that both have."""
    steps = sorted(left.keys() & right.keys())
    apart = {step: left[step] - right[step] for step in steps}
    half = [apart[step] for step in steps[len(steps) // 2 :]]
    worst = max(steps, key=lambda step: abs(apart[step]))
    return {
        "steps": len(steps),
        "mean_absolute": mean(map(abs, apart.values())),
        "largest_absolute": abs(apart[worst]),
        "largest_at_step": worst,
        "mean_signed_second_half": mean(half),
        "first_step": apart[steps[0]],
        "last_step": apart[steps[-1]],
    }


def draw(curves: dict[str, dict[str, float]], folder: Path) -> None:
    from tasks.deliver.charts import Line, line_chart

    kinds = ("train", "validation", "rate")
    lines = [
        Line(name, kind, sorted((int(step), loss) for step, loss in curve.items()))
        for (name, curve), kind in zip(curves.items(), kinds, strict=False)
    ]
    save(folder / "nemo-loss.svg", line_chart("training loss", lines), [line.label for line in lines])
    first, second = list(curves.values())[:2]
    apart = sorted((int(step), first[step] - second[step]) for step in first.keys() & second.keys())
    label = " minus ".join(list(curves)[:2])
    save(folder / "nemo-loss-difference.svg", line_chart(label, [Line(label, "train", apart)]), [label])


def save(path: Path, chart: Any, labels: list[str]) -> None:
    """A file of its own needs what the report's page gives: a name space, a style and the names of the curves."""
    colours = ("#1f5fa8", "#c9481f", "#2d8a4e")
    names = "".join(
        f'<text x="{60 + 130 * place}" y="12" style="fill:{colour}">{label}</text>'
        for place, (label, colour) in enumerate(zip(labels, colours, strict=False))
    )
    text = str(chart).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" width="800" ', 1)
    head, closing, rest = text.partition(">")
    path.write_text(f"{head}{closing}{STYLE}{names}{rest}\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
