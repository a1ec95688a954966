"""Every document, character and token from the first byte to the last, in one table that has to add up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_contracts.artifacts import TokenDataset
from data_contracts.manifest import Manifest
from data_contracts.token_files import TokenFile
from flows.inspecting.corpus_lineage import corpus_lineage

SPLITS = ("train", "validation")


@dataclass
class Account:
    """One stage: documents and characters in, where they went, and what does not add up.

    documents, characters: in, then each part by name; the parts sum up to what came in. tokens: by split.
    """

    stage: str
    documents: dict[str, int]
    characters: dict[str, int] = field(default_factory=dict)
    removed_by: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def accounts(path: Path) -> list[Account]:
    """The accounts of the corpus half behind an artifact or store, each checked in itself and against the one before.

    Raises MissingArtifact, DamagedArtifact.
    """
    result: list[Account] = []
    for stage, (folder, manifest) in corpus_lineage(path).items():
        account = _of_tokens(folder, manifest) if stage == "binarize" else _of_documents(stage, manifest)
        _check(account, result[-1] if result else None)
        result.append(account)
    return result


def _of_documents(stage: str, manifest: Manifest) -> Account:
    counts = manifest.summary.counts
    parts = {
        "in": counts.get("num_lines_in", counts.get("num_documents_in", 0)),
        "kept": counts["num_documents_kept"],
        "removed": counts.get("num_documents_removed", 0),
        "quarantined": counts.get("num_quarantined", 0),
        "not drawn": counts.get("num_documents_unsampled", 0),
        "blank": counts.get("num_blank_lines", 0),
    }
    kept = counts["num_characters_kept"]
    characters = {
        "in": counts.get("num_characters_in", kept),  # acquire counts the characters of what it keeps
        "kept": kept,
        "removed": counts.get("num_characters_removed", 0),
        "cleaned away": counts.get("num_characters_normalized_away", 0),
        "edited away": counts.get("num_characters_edited_away", 0),
    }
    removed_by = {n.removeprefix("removed_by_"): v for n, v in counts.items() if n.startswith("removed_by_") and v}
    return Account(stage, parts, characters, removed_by)


def _of_tokens(folder: Path, manifest: Manifest) -> Account:
    """What binarize says, and what its `.idx` and the rows of its documents hold, read now."""
    counts, dataset = manifest.summary.counts, TokenDataset.open(folder)
    account = Account("binarize", {"in": 0, "kept": 0}, {"in": 0, "kept": 0})
    for split in SPLITS:
        file = TokenFile(dataset.prefix(split))
        rows = pq.read_table(folder / f"{split}_tokens.parquet", columns=["num_characters", "num_tokens"])
        told, listed = counts[f"num_tokens_{split}"], pc.sum(rows["num_tokens"]).as_py() or 0
        account.documents["in"] += counts[f"num_documents_{split}"]
        account.documents["kept"] += len(file)
        account.characters["in"] += counts[f"num_characters_{split}"]
        account.characters["kept"] += pc.sum(rows["num_characters"]).as_py() or 0
        account.tokens[split] = file.num_tokens
        if not file.num_tokens == told == listed:
            account.problems.append(
                f"{split}: {file.num_tokens} tokens in .idx, {listed} by document, {told} in the manifest"
            )
    return account


def _check(account: Account, before: Account | None) -> None:
    for unit, parts in (("documents", account.documents), ("characters", account.characters)):
        accounted = sum(value for name, value in parts.items() if name != "in")
        if accounted != parts["in"]:
            account.problems.append(f"{parts['in']} {unit} came in, {accounted} are accounted for")
        kept = getattr(before, unit)["kept"] if before else parts["in"]
        if kept != parts["in"]:
            account.problems.append(f"{before.stage if before else ''} kept {kept} {unit}, {parts['in']} came in")
    removed = account.documents.get("removed", 0)
    if sum(account.removed_by.values()) != removed:
        account.problems.append(f"{sum(account.removed_by.values())} documents removed by filters, {removed} in all")


def as_text(result: list[Account]) -> str:
    """The accounts as a table for people."""
    lines = [f"{'stage':<10} {'':<12} {'documents':>14} {'characters':>18} {'tokens':>14}"]
    for account in result:
        names = [*account.documents, *(name for name in account.characters if name not in account.documents)]
        for name in names:
            documents, characters = account.documents.get(name, 0), account.characters.get(name, 0)
            if not documents and not characters and name not in ("in", "kept"):
                continue
            told = f"{documents:>14,}" if name in account.documents else f"{'':>14}"
            told += f" {characters:>18,}" if name in account.characters else ""
            lines.append(f"{account.stage if name == 'in' else '':<10} {name:<12} {told}".rstrip())
            if name == "removed":
                lines += [f"{'':<10}   {label:<24} {number:>12,}" for label, number in account.removed_by.items()]
        lines += [f"{'':<10} {split:<12} {'':>14} {'':>18} {number:>14,}" for split, number in account.tokens.items()]
        lines.append(
            f"{'':<10} {'adds up' if not account.problems else 'DOES NOT ADD UP: ' + '; '.join(account.problems)}"
        )
    return "\n".join(lines)
