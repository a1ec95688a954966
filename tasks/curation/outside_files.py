"""Files that the steps of a cascade read beside the corpus: word lists, models. Their content is part of the key."""

from __future__ import annotations

from pathlib import Path

from data_contracts.errors import ConfigError
from data_contracts.files import hash_file
from tasks.curation.config import FilterConfig


def outside_digests(config: FilterConfig) -> dict[str, str]:
    """sha256 of each outside file, by `cascade.<index of the step>.<name of the file>`.

    Raises ConfigError for a file that is not there.
    """
    known: dict[Path, str] = {}
    digests = {}
    for index, step in enumerate(config.cascade):
        for name, path in step.outside_files().items():
            # The same model often serves several stages: it is read once.
            known[path] = known.get(path) or _digest(step.filter, name, path)
            digests[f"cascade.{index}.{name}"] = known[path]
    return digests


def _digest(step: str, name: str, path: Path) -> str:
    if not path.is_file():
        raise ConfigError(
            f"`{path}`: found no such file, expected the {name} of the filter `{step}`",
            hint="put the file there, or correct its path in `filters.cascade`",
        )
    return hash_file(path).sha256
