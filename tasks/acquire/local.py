"""The `local` source: files that lie on this machine, and what they hold by hash."""

from __future__ import annotations

import os
from collections.abc import Iterator
from glob import glob, has_magic
from pathlib import Path

from data_contracts.errors import SourceError
from data_contracts.files import hash_file
from tasks.acquire.config import LocalSource
from tasks.acquire.reading import SUFFIXES, SourceFile, split_of


def find_files(config: LocalSource) -> list[SourceFile]:
    """The readable files of the source, sorted by name, each with the sha256 it has now.

    Raises SourceError when the path holds none, when a symbolic link leads out of the folder and that is not allowed,
    and for a pipe, socket or device with the name of a readable file.
    """
    if config.path.is_dir():
        root, paths = config.path, list(_walk(config.path, config, (config.path.resolve(),)))
    elif has_magic(str(config.path)) and not config.path.exists():
        paths = [p for p in map(Path, glob(str(config.path), recursive=True)) if p.name.endswith(SUFFIXES)]
        base = _fixed_part(config.path)
        for path in paths:
            _check_target(path, base.resolve(), config)
        root, paths = _common_folder(paths), [p for p in paths if not p.is_dir()]
    else:
        # The user named this very file, wherever it leads.
        root, paths = config.path.parent, [p for p in (config.path,) if p.exists() and p.name.endswith(SUFFIXES)]
    if not paths:
        raise SourceError(
            f"`{config.path}`: found no file, expected {', '.join(SUFFIXES)}",
            hint="set `source.path` to a file, a folder or a glob such as 'corpus/**/*.jsonl.gz'",
        )
    for path in paths:
        _check_regular(path)
    return [
        SourceFile(path=p, name=p.relative_to(root).as_posix(), split=split_of(p.name), sha256=hash_file(p).sha256)
        for p in sorted(paths)
    ]


def _walk(folder: Path, config: LocalSource, above: tuple[Path, ...]) -> Iterator[Path]:
    """Paths with a readable name below a folder. above: where its ancestors and itself really lie, the root first."""
    with os.scandir(folder) as listing:
        entries = list(listing)
    for entry in entries:
        path = Path(entry.path)
        readable = entry.name.endswith(SUFFIXES)
        if entry.is_symlink() and (readable or entry.is_dir()):
            _check_target(path, above[0], config)
        if entry.is_dir():
            real = path.resolve()
            if real in above:
                raise SourceError(
                    f"`{path}`: a symbolic link back to `{real}`, expected folders that end",
                    hint="remove the link, or name the files with a glob",
                )
            yield from _walk(path, config, (*above, real))
        elif readable:
            yield path


def _check_target(path: Path, root: Path, config: LocalSource) -> None:
    """Raises SourceError where the path leads out of `root` (a resolved folder) or nowhere."""
    real = path.resolve()
    if not real.exists():
        raise SourceError(f"`{path}`: a symbolic link to `{real}`, which is not there", hint="mend or remove the link")
    if not config.allow_outside_symlinks and not real.is_relative_to(root):
        link = next((p for p in (*reversed(path.parents), path) if p.is_symlink() and _leaves(p, root)), path)
        raise SourceError(
            f"`{link}`: a symbolic link to `{link.resolve()}`, expected files inside of `{root}`",
            hint="if that target is to be trusted, set `source.allow_outside_symlinks: true`",
        )


def _leaves(link: Path, root: Path) -> bool:
    """Whether a link that lies below `root` leads out of it."""
    return link.parent.resolve().is_relative_to(root) and not link.resolve().is_relative_to(root)


def _check_regular(path: Path) -> None:
    if not path.is_file():
        raise SourceError(
            f"`{path}`: a pipe, socket or device, expected a regular file",
            hint="write what it gives into a file first: a source is read more than once",
        )


def _fixed_part(pattern: Path) -> Path:
    """The folder that all matches of a glob lie in, by its parts before the first wildcard."""
    fixed = pattern
    while has_magic(str(fixed)):
        fixed = fixed.parent
    return fixed


def _common_folder(paths: list[Path]) -> Path:
    """The deepest folder that holds all of them, so that names do not depend on where the tree lies."""
    parents = [p.parent for p in paths] or [Path()]
    common = parents[0]
    while not all(p.is_relative_to(common) for p in parents):
        common = common.parent
    return common
