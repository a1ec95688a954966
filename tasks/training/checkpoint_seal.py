"""The seal of a checkpoint of our own training loop: its files, sizes and hashes; read without torch."""

from __future__ import annotations

import json
from pathlib import Path

from data_contracts.files import FileEntry, hash_file

SEAL, STATE = "checkpoint.json", "state.json"


def sealed_files(path: Path) -> list[FileEntry]:
    """Every file of a checkpoint but the seal. Raises OSError or ValueError where the seal cannot be read."""
    return [FileEntry.model_validate(entry) for entry in json.loads((path / SEAL).read_bytes())]


def damage(path: Path, *, contents: bool = True) -> str | None:
    """What is wrong with a checkpoint folder, or None. contents: compare hashes, not sizes alone."""
    try:
        for entry in sealed_files(path):
            if (found := (path / entry.name).stat().st_size) != entry.bytes:
                return f"{entry.name} holds {found} bytes, expected {entry.bytes}"
            if contents and hash_file(path / entry.name).sha256 != entry.sha256:
                return f"{entry.name} has another sha256 than when it was written"
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def step(path: Path) -> int | None:
    """The step that a checkpoint says it was written after; None where it does not say."""
    try:
        found = json.loads((path / STATE).read_bytes())["step"]
    except (OSError, ValueError, TypeError, KeyError):
        return None  # `damage` tells what is wrong
    return found if isinstance(found, int) else None
