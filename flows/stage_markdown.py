"""What a stage did, as the Markdown shown in the Prefect UI: counts, rates, proofs and a few examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from data_contracts.manifest import Manifest

MAX_EXAMPLES = 5
MAX_CELL_CHARACTERS = 120


def stage_markdown(manifest: Manifest, path: Path) -> str:
    """Markdown tables; every text from a corpus is cut and cannot break out of its cell."""
    counts = manifest.summary.counts
    parts = [
        f"# {manifest.stage}",
        f"`{manifest.key[:12]}` → digest `{manifest.digest[:12]}` in {manifest.seconds:.1f} s",
        f"Folder: `{path}`",
        _table(["count", "value", "per second"], [_count_row(k, v, manifest.seconds) for k, v in counts.items()]),
    ]
    if manifest.summary.proofs:
        rows = [[name, _cell(value)] for name, value in manifest.summary.proofs.items()]
        parts += ["## Proved", _table(["what", "figure"], rows)]
    if examples := manifest.summary.examples[:MAX_EXAMPLES]:
        columns = list(dict.fromkeys(key for example in examples for key in example))
        parts += ["## Examples", _table(columns, [[_cell(e.get(c, "")) for c in columns] for e in examples])]
    return "\n\n".join(parts)


def _count_row(name: str, value: int, seconds: float) -> list[str]:
    return [name, f"{value:,}", f"{value / seconds:,.0f}" if seconds else "–"]


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    cut = text[:MAX_CELL_CHARACTERS] + ("…" if len(text) > MAX_CELL_CHARACTERS else "")
    return cut.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "'")
