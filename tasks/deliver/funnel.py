"""The funnel of documents: what came into each stage, what left it, and whether the sums agree."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.deliver.formats import number
from tasks.deliver.lineage import Lineage

PARTS = (
    ("kept", "kept", "num_documents_kept"),
    ("removed", "removed", "num_documents_removed"),
    ("quarantined", "quarantined", "num_quarantined"),
    ("unsampled", "not drawn", "num_documents_unsampled"),
    ("blank", "blank lines", "num_blank_lines"),
)


@dataclass(frozen=True)
class Part:
    """A share of the documents that came into a stage."""

    kind: str
    label: str
    count: int


@dataclass(frozen=True)
class FunnelStep:
    """One stage of the funnel. problems: every sum that does not agree; checked: whether there was one to check."""

    role: str
    title: str
    unit: str
    num_in: int | None
    parts: tuple[Part, ...]
    problems: tuple[str, ...]
    checked: bool
    note: str = ""

    @property
    def num_kept(self) -> int | None:
        return next((part.count for part in self.parts if part.kind == "kept"), None)


def funnel(lineage: Lineage) -> list[FunnelStep]:
    """Acquire, filter, dedup, split and binarize, each checked in itself and against the one before."""
    steps: list[FunnelStep] = []
    for role in ("raw", "filtered", "unique", "corpus"):
        steps.append(_step(lineage, role, steps[-1] if steps else None))
    return [*steps, _tokens(lineage, steps[-1])]


def reconciles(steps: list[FunnelStep]) -> bool:
    """Whether every stage could be checked and every sum agrees."""
    return all(step.checked and not step.problems for step in steps)


def _step(lineage: Lineage, role: str, before: FunnelStep | None) -> FunnelStep:
    counts = lineage[role].counts
    num_in = counts.get("num_lines_in", counts.get("num_documents_in"))
    parts = tuple(
        Part(kind, label, counts[name])
        for kind, label, name in PARTS
        if name in counts and (counts[name] or kind in ("kept", "removed"))
    )
    checked = num_in is not None and any(part.kind == "kept" for part in parts)
    problems = [*_sum_problem(num_in, parts), *_border_problem(num_in, before)]
    if role == "corpus":
        problems += _split_problem(counts)
    unit = "lines" if "num_lines_in" in counts else "documents"
    return FunnelStep(role, lineage[role].title, unit, num_in, parts, tuple(problems), checked, _note(lineage, role))


def _sum_problem(num_in: int | None, parts: tuple[Part, ...]) -> list[str]:
    total = sum(part.count for part in parts)
    if num_in is None or not parts or total == num_in:
        return []
    return [f"{number(num_in)} came in, {number(total)} are accounted for"]


def _border_problem(num_in: int | None, before: FunnelStep | None) -> list[str]:
    if before is None or before.num_kept is None or num_in is None or num_in == before.num_kept:
        return []
    return [f"the stage before kept {number(before.num_kept)}, {number(num_in)} came in"]


def _split_problem(counts: dict[str, int]) -> list[str]:
    train, validation = counts.get("num_documents_train"), counts.get("num_documents_validation")
    kept = counts.get("num_documents_kept")
    if train is None or validation is None or kept is None or train + validation == kept:
        return []
    return [f"{number(train)} train and {number(validation)} validation are not the {number(kept)} kept"]


def _note(lineage: Lineage, role: str) -> str:
    train, validation = lineage.count(role, "num_documents_train"), lineage.count(role, "num_documents_validation")
    if train is not None and validation is not None:
        return f"{number(train)} train, {number(validation)} validation"
    characters = lineage.count(role, "num_characters_kept")
    return f"{number(characters)} characters kept" if characters is not None else ""


def _tokens(lineage: Lineage, before: FunnelStep) -> FunnelStep:
    """Binarize keeps every document; what it adds is the number of tokens."""
    counts = lineage["tokens"].counts
    halves = [counts.get(f"num_documents_{split}") for split in ("train", "validation")]
    kept = None if None in halves else sum(half for half in halves if half is not None)
    parts = () if kept is None else (Part("kept", "in .idx", kept),)
    num_in = counts.get("num_documents_in", before.num_kept)
    tokens = [counts.get(f"num_tokens_{split}") for split in ("train", "validation")]
    note = f"{number(tokens[0])} train tokens, {number(tokens[1])} validation tokens"
    problems = (*_sum_problem(num_in, parts), *_border_problem(num_in, before))
    return FunnelStep("tokens", lineage["tokens"].title, "documents", num_in, parts, problems, kept is not None, note)
