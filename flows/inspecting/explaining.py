"""The life of one document, from the line it was read from to its tokens, as the artifacts on disk tell it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_contracts.errors import DataError
from data_contracts.manifest import Manifest
from data_contracts.token_files import TokenFile
from flows.inspecting.corpus_lineage import corpus_lineage

EXCERPT_CHARACTERS = 200
MAX_SUGGESTIONS = 5


def life_of(path: Path, document: str) -> list[dict[str, Any]]:
    """What each stage of the corpus half behind an artifact or store did to a document, one entry a stage.

    Entries have `stage`, `event` (kept, removed, drawn ..) and what is known; the life ends where it was removed.
    Raises DataError, with ids that are alike, when no stage ever saw that id.
    """
    stages = corpus_lineage(path)
    events: list[dict[str, Any]] = []
    for stage, (folder, manifest) in stages.items():
        found = (
            _in_tokens(folder, document) if stage == "binarize" else _in_documents(stage, folder, manifest, document)
        )
        if found:
            events.append({"stage": stage, **found})
        if found and found["event"] == "removed":
            break
    if not events:
        raise DataError(
            f"`{document}`: no document of that id in {', '.join(stages)}",
            hint=_alike(next(iter(stages.values()))[0], document),
        )
    return events


def _in_documents(stage: str, folder: Path, manifest: Manifest, document: str) -> dict[str, Any] | None:
    edits = [
        {key: row[key] for key in ("filter", "num_places", "num_characters_removed", "removed")}
        for row in _rows(folder / "edits.parquet", document)
    ]
    if edits:
        edits = [{"edits": edits}]
    for row in _rows(folder / "ledger.parquet", document):
        told = {k: row[k] for k in ("filter", "reason", "score", "threshold", "cluster", "kept_id", "matched_id")}
        told = {key: value for key, value in told.items() if value is not None}
        return {"event": "removed", **told, **_text(row["text"]), **(edits[0] if edits else {})}
    for shard in sorted((folder / "documents").glob("*.parquet")):
        for row in _rows(shard, document):
            told = {"shard": shard.name, **_text(row["text"]), **(edits[0] if edits else {})}
            if stage == "acquire":
                told |= {key: row[key] for key in ("source", "title", "url") if row[key]}
            if stage == "dedup":
                told |= _duplicates(folder, document)
            return {"event": "kept", **told}
    return None


def _duplicates(folder: Path, document: str) -> dict[str, Any]:
    """The documents that went because this one stayed."""
    ledger = folder / "ledger.parquet"
    rows = pq.read_table(ledger, columns=["id", "kept_id"], filters=pc.field("kept_id") == document)
    return {"duplicates_removed": rows["id"].to_pylist()} if rows.num_rows else {}


def _in_tokens(folder: Path, document: str) -> dict[str, Any] | None:
    for split in ("train", "validation"):
        rows = pq.read_table(folder / f"{split}_tokens.parquet")
        places = np.flatnonzero(pc.equal(rows["id"], document).to_numpy(zero_copy_only=False))
        for place in places.tolist():
            [index] = folder.glob(f"*{split}_text_document.idx")
            tokens = TokenFile(index.with_suffix(""))
            return {
                "event": "kept",
                "split": split,
                "index": place,
                "first_token": int(tokens.starts[place]),
                "num_tokens": int(tokens.lengths[place]),
                "num_characters": rows["num_characters"][place].as_py(),
            }
    return None


def _rows(file: Path, document: str) -> Iterator[dict[str, Any]]:
    if file.is_file():
        yield from pq.read_table(file, filters=pc.field("id") == document).to_pylist()


def _text(text: str) -> dict[str, Any]:
    return {"num_characters": len(text), "text": text[:EXCERPT_CHARACTERS]}


def _alike(folder: Path, document: str) -> str:
    shards = sorted((folder / "documents").glob("*.parquet"))
    ids = pa.chunked_array([c for s in shards for c in pq.read_table(s, columns=["id"])["id"].chunks], pa.string())
    alike = ids.filter(pc.match_substring(ids, document)).slice(0, MAX_SUGGESTIONS).to_pylist()
    shown = alike or ids.slice(0, MAX_SUGGESTIONS).to_pylist()
    return f"{'ids that contain it' if alike else 'ids look like this'}: {', '.join(shown)}"


def as_text(events: list[dict[str, Any]]) -> str:
    """The life of a document for people: a paragraph a stage; its text where a stage changed what is seen of it."""
    lines, seen = [], None
    for event in events:
        head = f"{event['stage']:<9} {event['event']}"
        lines.append(f"{head}: {event['reason']}" if "reason" in event else head)
        for key, value in event.items():
            if key == "edits":
                lines += [f"{'':<11}{e['filter']} took out {e['num_places']} pieces: {e['removed']!r}" for e in value]
            elif key == "text":
                lines += [f"{'':<11}text: {' '.join(value.split())}"] if value != seen else []
                seen = value
            elif key not in ("stage", "event", "reason"):
                lines.append(f"{'':<11}{key}: {value}")
    return "\n".join(lines)
