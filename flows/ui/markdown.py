"""What a stage did, as the tables and the Markdown shown in the Prefect UI: counts, rates, proofs, a few examples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_contracts.manifest import Manifest
from tasks.deliver import formats
from tasks.deliver.lineage import leaves
from tasks.deliver.report import shown
from tasks.stage import Stage

MAX_EXAMPLES = 5
MAX_CELL_CHARACTERS = 120
MAX_PROOF_CHARACTERS = 400
MAX_PROOFS = 40
NUM_OUTCOMES = 2
RATED = re.compile(r"^(num_)?(documents|lines|characters|tokens|samples|steps|pairs|bytes)(_|$)")
"""Counts whose number per second says something."""
SHARED = re.compile(r"^(num_documents_|removed_by_|num_quarantined|num_blank_lines)")
"""Counts that are a part of all documents."""
MARKUP = {ord(character): f"\\{character}" for character in "\\&<>|`*_~[]!#:@$^=\"'"}
"""A backslash before what means something; character references would be shown as they are by the UI's tables."""
OUTCOME = re.compile(r"documents_kept|tokens_train|consumed|^parameters$|pairs_train|^num_files$")
FIRST = re.compile(r"^(\d*)([-+.)])")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]+")
Row = dict[str, str]


def figure_rows(manifest: Manifest) -> list[Row]:
    """The stage's counts with their share of all documents and their rate."""
    counts = manifest.summary.counts
    whole = counts.get("num_documents_in", counts.get("num_lines_in"))
    return [
        {
            "figure": cell(formats.words(name)),
            "value": formats.number(value),
            "of all documents": formats.percent(value / whole) if whole and SHARED.match(name) else "",
            "per second": _rate(name, value, manifest.seconds),
        }
        # What came in and went out, before the reasons.
        for name, value in sorted(counts.items(), key=lambda item: not item[0].startswith("num_"))
    ]


def told_in_a_line(stage: Stage, manifest: Manifest, path: Path, status: str) -> str:
    """What it makes, how it came about, where it lies."""
    words = f"{status} in {formats.duration(manifest.seconds)}, digest `{manifest.digest[:12]}`"
    return f"{stage.summary}. {words.capitalize()}, folder {cell(str(path), 400)}"


def logged_line(manifest: Manifest, path: Path, status: str) -> str:
    """What the log of a run says of a stage that was built; plain text."""
    return f"{status} in {formats.duration(manifest.seconds)}: {_outcomes(manifest) or manifest.stage}; {path}"


def stage_view(manifest: Manifest, pictures: Mapping[str, str]) -> str:
    """Markdown with the pictures (name to `data:` address), what was proved, and a few examples.

    Lists, not tables: they wrap, where the UI cuts a wide table off.
    """
    parts = [f"# {cell(manifest.stage)}", *picture_lines(pictures)]
    if proofs := [(name, value) for name, value in leaves(manifest.summary.proofs) if name]:
        parts += ["## Proved", "\n".join(_item([item], MAX_PROOF_CHARACTERS) for item in proofs[:MAX_PROOFS])]
    if examples := manifest.summary.examples[:MAX_EXAMPLES]:
        parts += ["## Examples", "\n".join(_item(example.items(), MAX_CELL_CHARACTERS) for example in examples)]
    return "\n\n".join(parts)


def picture_lines(pictures: Mapping[str, str]) -> list[str]:
    return [f"![{cell(name)}]({address})" for name, address in pictures.items()]


def lineage_rows(found: Iterable[Manifest]) -> list[Row]:
    """One row for each stage on the way to a delivery, in the order in which they were sealed."""
    return [
        {
            "stage": cell(manifest.stage),
            "digest": f"`{manifest.digest[:12]}`",
            "took": cell(formats.duration(manifest.seconds)),
            "sealed (UTC)": cell(f"{manifest.created_at:%Y-%m-%d %H:%M:%S}"),
            "what came out": cell(_outcomes(manifest)),
            "made from": ", ".join(f"`{digest}` {cell(name)}" for name, digest in _origins(manifest)) or "–",
        }
        for manifest in sorted(found, key=lambda manifest: manifest.created_at)
    ]


def cell(value: Any, limit: int = MAX_CELL_CHARACTERS) -> str:
    """A value as one line of text in which Markdown and HTML find nothing of theirs: no link, no picture, no column.

    The UI would load a picture from wherever a document says.
    """
    text = value if isinstance(value, str) else shown(value)
    flat = formats.excerpt(CONTROL.sub(" ", text[: limit * 8]), limit).translate(MARKUP)
    # What would begin a list at the start of a line, and an address without a colon.
    return re.sub(r"(?i)\bwww\.", r"www\\.", FIRST.sub(r"\1\\\2", flat))


def _item(pairs: Iterable[tuple[str, Any]], limit: int) -> str:
    return "- " + " · ".join(f"**{cell(formats.words(str(name)))}** {cell(value, limit)}" for name, value in pairs)


def _rate(name: str, value: int, seconds: float) -> str:
    return formats.number(float(f"{value / seconds:.3g}")) if seconds and RATED.match(name) else ""


def _origins(manifest: Manifest) -> list[tuple[str, str]]:
    """(stage, or name of files from outside; first digits of the digest), each once."""
    found = [(reference.stage or name, reference.digest[:6]) for name, reference in manifest.inputs.items()]
    return list(dict.fromkeys(found))


def _outcomes(manifest: Manifest) -> str:
    """The counts that tell most: what was kept or consumed, before the rest."""
    counts = [item for item in manifest.summary.counts.items() if item[1]]
    most = sorted(counts, key=lambda item: not OUTCOME.search(item[0]))[:NUM_OUTCOMES]
    return ", ".join(f"{formats.words(name)} {formats.number(value)}" for name, value in most)
