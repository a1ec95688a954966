"""What a folder of the corpus holds at a commit: names, sizes and sha256, recorded so that it is asked for once."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_contracts.errors import SourceError
from data_contracts.files import sync_path
from tasks.acquire.reading import SUFFIXES

FOLDER = "listings"


class LfsObject(BaseModel):
    """One file of the project, as its LFS pointer announces it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Path inside the project.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="What its content must hash to, in lower-case hex.")
    size: int = Field(ge=0, description="Size in bytes.")


class Listing(BaseModel):
    """The readable files below one folder at one commit, sorted by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: str = Field(description="GitLab project.")
    commit: str = Field(pattern=r"^[0-9a-f]{40}$", description="Commit.")
    folder: str = Field(description="Folder of the project.")
    files: tuple[LfsObject, ...] = Field(min_length=1, description="Its files.")


def path_of(root: Path, project: str, commit: str, folder: str) -> Path:
    """Where the listing of a folder lies below a download folder."""
    return root / FOLDER / quote(project, safe="") / commit / f"{quote(folder, safe='')}.json"


def read_listing(path: Path) -> Listing:
    """A recorded listing. Raises SourceError for one that is damaged or names files outside of its folder."""
    try:
        listing = Listing.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise SourceError(
            f"`{path}`: {where}: {first['msg']}; expected a listing", hint="delete it and run again; it is made anew"
        ) from None
    check_names([file.name for file in listing.files], listing.folder)
    return listing


def write_listing(path: Path, listing: Listing) -> None:
    """Records a listing; whoever finds it finds it whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(listing.model_dump_json(indent=1), encoding="utf-8")
    sync_path(partial)
    partial.replace(path)
    sync_path(path.parent)


def check_names(names: list[str], folder: str) -> None:
    """Raises SourceError for a name outside of the folder, one no file can have, and one that comes twice."""
    for name in names:
        parts = name.split("/")
        odd = "\\" in name or not name.isprintable() or any(part in ("", ".", "..") for part in parts)
        if odd or not name.startswith(f"{folder}/"):
            raise SourceError(
                f"{name[:200]!r}: the server lists it, expected names in `{folder}/`",
                hint="do not use this mirror; report it to whoever runs it",
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceError(f"`{twice}`: the server lists it twice", hint="report it to whoever runs the server")


def readable(names: list[str], folder: str, commit: str) -> list[str]:
    """The names that a reader exists for, sorted. Raises SourceError where there is none."""
    found = sorted(name for name in names if name.endswith(SUFFIXES))
    if not found:
        raise SourceError(
            f"`{folder}`: no file at {commit}, expected {', '.join(SUFFIXES)}", hint="check `source.folders`"
        )
    return found
