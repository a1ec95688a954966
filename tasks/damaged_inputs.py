"""Failures that a damaged input of a stage stands behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from data_contracts.artifacts import type_named, verify_files
from data_contracts.errors import ArtifactError, StorageError, UsageError, WorkerLost
from data_contracts.manifest import read_manifest
from tasks.stage import Request


def check_inputs(request: Request) -> None:
    """Raises DamagedArtifact or MissingArtifact for an input that lost files or bytes since it was opened."""
    for value in request.inputs.values():
        type_named(read_manifest(value.path).kind).open(value.path)


@contextmanager
def damaged_inputs_named(request: Request) -> Iterator[None]:
    """Within, a failure that a damaged input explains becomes the DamagedArtifact that names its file.

    Every byte of the inputs is read for that, but only after a failure; a worker that was killed is none of theirs.
    """
    check_inputs(request)
    try:
        yield
    except (UsageError, StorageError, WorkerLost):
        raise
    except Exception as error:
        for value in request.inputs.values():
            try:
                verify_files(value.path)
            except ArtifactError as damage:
                raise damage from error
        raise
