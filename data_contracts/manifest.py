"""The manifest that seals an artifact: what it is, what made it, from what, and every file's hash."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_contracts.errors import DamagedArtifact, MissingArtifact
from data_contracts.files import FileEntry

MANIFEST_NAME = "manifest.json"


class InputReference(BaseModel):
    """Where an input of a stage came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str = Field(description="Content digest the key was made from.")
    stage: str | None = Field(default=None, description="Stage that sealed it; none for files from outside.")
    key: str | None = Field(default=None, description="Key it was sealed under; none for files from outside.")
    part: str | None = Field(default=None, description="Which part of that artifact was used; none for all of it.")


class DataSource(BaseModel):
    """Origin and licence of data, carried from the first stage to the model card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Name of the data set or model.")
    url: str = Field(default="", description="Where it is published.")
    revision: str = Field(default="", description="Exact revision that was read.")
    licence: str = Field(default="unknown", description="SPDX identifier, or the licence in words.")
    attribution: str = Field(default="", description="The line that the licence asks to be shown.")


class Summary(BaseModel):
    """What a stage body says of its work; it is written into the manifest and shown in the UI."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: dict[str, int] = Field(default_factory=dict, description="Exact whole numbers, by name.")
    proofs: dict[str, Any] = Field(default_factory=dict, description="What was checked, with the figures.")
    examples: list[dict[str, Any]] = Field(default_factory=list, description="A few rows worth seeing.")
    sources: list[DataSource] = Field(default_factory=list, description="Licences that this stage adds.")


class Manifest(BaseModel):
    """`manifest.json`; written last, so a folder without it is no artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(description="Artifact type.")
    contract_version: int = Field(description="Version of that type's layout.")
    stage: str = Field(description="Stage that made it.")
    revision: int = Field(description="Revision of that stage.")
    key: str = Field(description="Identity: sha256 of stage, revision, input digests and config values.")
    digest: str = Field(description="Content digest over the files that are not volatile; goes downstream.")
    inputs: dict[str, InputReference] = Field(description="Inputs by parameter name.")
    config: dict[str, Any] = Field(description="The whole config of the stage.")
    summary: Summary = Field(description="Counts, proofs and examples.")
    sources: list[DataSource] = Field(description="Every data licence that went into it.")
    files: list[FileEntry] = Field(description="Every file but the manifest, sorted by name.")
    engine: str = Field(description="What ran the jobs of the stage: local, or dask.")
    libraries: dict[str, str] = Field(description="Versions of the libraries that made it.")
    created_at: datetime = Field(description="When it was sealed (UTC).")
    seconds: float = Field(description="How long the stage ran in its last attempt, in seconds.")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a sealed artifact.

    Raises MissingArtifact where there is none and DamagedArtifact where it cannot be read.
    """
    path = folder / MANIFEST_NAME
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingArtifact(
            f"`{folder}`: no {MANIFEST_NAME} there, expected a sealed artifact",
            hint="name a folder that `tsuzuki run` printed as `path`, or run the stage that makes it",
        ) from None
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DamagedArtifact(
            f"`{path}`: {where}: {first['msg']}; expected a manifest of this version",
            hint="delete that folder and run again; the stage is rebuilt",
        ) from None
