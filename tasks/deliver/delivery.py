"""Stage `deliver`: model, adapter, evaluation, model card, report and checksums in one folder to hand over."""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatchcase

from data_contracts.artifacts import (
    REBUILD_HINT,
    Adapter,
    Artifact,
    Corpus,
    EvalReport,
    HfModel,
    InstructionSet,
    RawCorpus,
    TokenDataset,
)
from data_contracts.errors import DamagedArtifact
from data_contracts.files import READ_SIZE_BYTES
from data_contracts.manifest import Summary
from tasks.deliver.card import render_card
from tasks.deliver.comparison import ENGLISH, JAPANESE, Comparison, read_comparison
from tasks.deliver.config import DeliverConfig
from tasks.deliver.funnel import funnel, reconciles
from tasks.deliver.lineage import Lineage
from tasks.deliver.report import render_report
from tasks.deliver.truth import curation_truth
from tasks.workspace import Workspace

CARD_NAME = "README.md"
SUMS_NAME = "SHA256SUMS"


def deliver(
    config: DeliverConfig,
    workspace: Workspace,
    raw: RawCorpus,
    filtered: Corpus,
    unique: Corpus,
    corpus: Corpus,
    base: HfModel,
    tokens: TokenDataset,
    continued: HfModel,
    instructions: InstructionSet,
    adapter: Adapter,
    tuned: HfModel,
    evaluation: EvalReport,
) -> Summary:
    """The hand-over folder: every copied file proved against the hash it was sealed with, checksums written last.

    Raises DamagedArtifact if a file to copy is not the one that was sealed.
    """
    lineage = Lineage.of(
        {
            "raw": raw, "filtered": filtered, "unique": unique, "corpus": corpus, "base": base, "tokens": tokens,
            "continued": continued, "instructions": instructions, "adapter": adapter, "tuned": tuned,
            "evaluation": evaluation,
        }
    )  # fmt: skip
    comparison = read_comparison(evaluation.path)
    truth = curation_truth(lineage)
    num_copied = _copy(workspace, tuned, "model") + _copy(workspace, adapter, "adapter")
    num_copied += _copy(workspace, evaluation, "evaluation", logs=True)
    if truth is not None:
        content = json.dumps(truth, ensure_ascii=False, indent=1, sort_keys=True)
        workspace.write_bytes("evaluation/curation.json", content.encode() + b"\n")
    card = render_card(config, lineage, comparison)
    for name in (CARD_NAME, f"model/{CARD_NAME}"):
        workspace.write_bytes(name, card)
    workspace.write_bytes("report.html", render_report(config, lineage, comparison, truth))
    _write_sums(workspace)
    return _summary(workspace, lineage, comparison, num_copied)


def _copy(workspace: Workspace, artifact: Artifact, folder: str, *, logs: bool = False) -> int:
    """Copies an artifact's files (its logs only if asked, never its own README) and returns how many."""
    entries = [entry for entry in artifact.manifest.files if logs or not fnmatchcase(entry.name, "logs/*")]
    entries = [entry for entry in entries if entry.name != CARD_NAME]
    for done, entry in enumerate(entries):
        source = artifact.path / entry.name
        with open(source, "rb") as reader, workspace.open(f"{folder}/{entry.name}") as writer:
            shutil.copyfileobj(reader, writer, READ_SIZE_BYTES)
            copied = writer.entry(entry.name)
        if copied.sha256 != entry.sha256:
            raise DamagedArtifact(
                f"`{source}`: found sha256 {copied.sha256[:12]}…, expected {entry.sha256[:12]}…", hint=REBUILD_HINT
            )
        workspace.progress(done + 1, len(entries), unit=f"{folder} files")
    return len(entries)


def _write_sums(workspace: Workspace) -> None:
    """`SHA256SUMS` of every file there is, in the form that `sha256sum -c` reads."""
    lines = [f"{entry.sha256}  {entry.name}\n" for entry in workspace.files() if entry.name != SUMS_NAME]
    workspace.write_bytes(SUMS_NAME, "".join(lines).encode())


def _summary(workspace: Workspace, lineage: Lineage, comparison: Comparison, num_copied: int) -> Summary:
    entries = workspace.files()
    steps = funnel(lineage)
    return Summary(
        counts={
            "num_files": len(entries),
            "num_bytes": sum(entry.bytes for entry in entries),
            "num_files_copied": num_copied,
        },
        proofs={
            "copied_files_equal_their_sealed_hashes": True,
            "funnel_reconciles": reconciles(steps),
            "funnel_problems": [f"{step.role}: {problem}" for step in steps for problem in step.problems],
            "japanese_perplexity_base_continued_tuned": comparison.values(JAPANESE),
            "english_perplexity_base_continued_tuned": comparison.values(ENGLISH),
            "licences": sorted({s.licence for s in (*lineage.weight_sources, *lineage.data_sources)}),
        },
    )
