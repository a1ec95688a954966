"""The `local` source: files that lie on this machine, and what they hold by hash."""

from __future__ import annotations

from glob import glob
from pathlib import Path

from data_contracts.errors import SourceError
from data_contracts.files import hash_file
from tasks.acquire.config import LocalSource
from tasks.acquire.reading import SUFFIXES, SourceFile, split_of


def find_files(config: LocalSource) -> list[SourceFile]:
    """The readable files of the source, sorted by name, each with the sha256 it has now.

    Raises SourceError when the path holds none.
    """
    pattern = config.path
    if pattern.is_dir():
        root, paths = pattern, [p for p in pattern.rglob("*") if p.is_file()]
    elif pattern.is_file():
        root, paths = pattern.parent, [pattern]
    else:
        paths = [Path(p) for p in glob(str(pattern), recursive=True) if Path(p).is_file()]
        root = _common_folder(paths)
    paths = sorted(p for p in paths if p.name.endswith(SUFFIXES))
    if not paths:
        raise SourceError(
            f"`{config.path}`: found no file, expected {', '.join(SUFFIXES)}",
            hint="set `source.path` to a file, a folder or a glob such as 'corpus/**/*.jsonl.gz'",
        )
    return [
        SourceFile(path=p, name=p.relative_to(root).as_posix(), split=split_of(p.name), sha256=hash_file(p).sha256)
        for p in paths
    ]


def _common_folder(paths: list[Path]) -> Path:
    """The deepest folder that holds all of them, so that names do not depend on where the tree lies."""
    parents = [p.parent for p in paths] or [Path()]
    common = parents[0]
    while not all(p.is_relative_to(common) for p in parents):
        common = common.parent
    return common
