"""What `verify` finds damaged is built again from its own manifest, inputs first, and must have the same content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_type_hints

from pydantic import TypeAdapter, ValidationError

from data_contracts.artifacts import Artifact, Part, type_named
from data_contracts.errors import ArtifactError, DamagedArtifact, DataError, TsuzukiError, WrongArtifact
from data_contracts.manifest import MANIFEST_NAME, InputReference, Manifest, read_manifest
from flows.inspecting.inspection import damage_of, verify_path
from flows.recipes import PipelineConfig
from flows.running import runtime_of
from flows.runs import Run
from tasks.stage import Request, Stage
from tasks.stages import ALL_STAGES

AGAIN = "run the recipe, which builds what is missing; then repair again"


class Outcome(NamedTuple):
    """What `verify` found of one artifact, None where it is whole, and what became of it.

    rebuilt: whole again, with the content it had. changed: whole again, but with other content than what was made from
    it has seen. discarded: its manifest could not be read; the next run of its recipe builds it. failed: left as it is.
    """

    path: Path
    damage: str | None = None
    deed: Literal["rebuilt", "changed", "discarded", "failed"] | None = None
    reason: str = ""

    @property
    def is_whole(self) -> bool:
        return self.damage is None or self.deed in ("rebuilt", "changed")

    @property
    def is_settled(self) -> bool:
        """Whether no damage and nothing stale is left in the store."""
        return self.damage is None or self.deed in ("rebuilt", "discarded")

    def as_values(self) -> dict[str, Any]:
        told = {"error": self.damage, "repair": self.deed, "reason": self.reason}
        return {
            "path": str(self.path),
            "whole": self.is_whole,
            **{name: value for name, value in told.items() if value},
        }


def repair_path(path: Path) -> Iterator[Outcome]:
    """The outcome of an artifact, or of each one in a store: the whole ones first, then the damaged, inputs first.

    A damaged artifact stays where it is until the new one is sealed. Stages run in this process, without Prefect and
    its limits on GPUs. Raises MissingArtifact where there is none.
    """
    root = path.parent.parent if (path / MANIFEST_NAME).is_file() else path
    repair = _Repair(Run(runtime_of(PipelineConfig.model_validate({}), root)))
    for folder, damage in verify_path(path):
        repair.damage[folder] = damage
        if damage is None:
            yield Outcome(folder)
    # What cannot be read goes first: nothing may be built from it.
    damaged = [folder for folder, damage in repair.damage.items() if damage]
    for folder in sorted(damaged, key=_is_readable):
        num_told = len(repair.outcomes)
        repair.mend(folder)
        yield from list(repair.outcomes.values())[num_told:]


class _Repair:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.damage: dict[Path, str | None] = {}
        self.outcomes: dict[Path, Outcome] = {}

    def mend(self, folder: Path) -> None:
        """Builds a damaged artifact again, if that was not tried yet; a whole one stays as it is."""
        if folder not in self.damage:
            self.damage[folder] = damage_of(folder)
        damage = self.damage[folder]
        if damage is None or folder in self.outcomes:
            return
        try:
            outcome = self._rebuild(folder, damage) if _is_readable(folder) else self._discard(folder, damage)
        except TsuzukiError as error:
            outcome = Outcome(folder, damage, "failed", str(error))
        self.outcomes[folder] = outcome

    def _rebuild(self, folder: Path, damage: str) -> Outcome:
        manifest = read_manifest(folder)
        request = self._request_of(folder, manifest)
        built = self.run.build(request, rebuild=True)
        digest = request.stage.output.open(built.path).digest
        # Either may be what was damaged.
        if digest in (manifest.digest, request.stage.output.content_digest(manifest.files)):
            return Outcome(folder, damage, "rebuilt")
        reason = f"digest {digest[:12]}…, expected {manifest.digest[:12]}…: what was made from it before is stale"
        return Outcome(folder, damage, "changed", f"{reason}\nhint: run the recipe; it builds anew what depends on it")

    def _discard(self, folder: Path, damage: str) -> Outcome:
        _check_not_of_another_version(folder)
        self.run.store.discard(folder)
        return Outcome(folder, damage, "discarded", f"nothing tells how it was made\nhint: {AGAIN}")

    def _request_of(self, folder: Path, manifest: Manifest) -> Request:
        """The use of a stage that a manifest tells of. Raises WrongArtifact, DataError, or what keeps its inputs."""
        stage = ALL_STAGES.get(manifest.stage)
        if stage is None or stage.revision != manifest.revision:
            now = f"revision {stage.revision}" if stage else "no such stage"
            raise WrongArtifact(
                f"`{folder}`: made by {manifest.stage} revision {manifest.revision}, this version has {now}",
                hint="run the recipe, which builds it anew beside this one, and delete this folder",
            )
        inputs = {name: self._input(name, ref) for name, ref in manifest.inputs.items() if ref.stage}
        request = Request.of(stage, _config_of(folder, manifest, stage), inputs)
        if self.run.store.sealed(request) != folder:
            raise _of_another_key(folder, manifest, request)
        return request

    def _input(self, name: str, reference: InputReference) -> Artifact | Part:
        assert reference.stage and reference.key
        folder = self.run.store.locate(reference.stage, reference.key, reference.digest)
        self.mend(folder)
        outcome = self.outcomes.get(folder)
        if outcome and outcome.deed != "rebuilt":
            raise DamagedArtifact(f"`{folder}`: input `{name}` is damaged and was {outcome.deed}", hint=AGAIN)
        artifact = type_named(read_manifest(folder).kind).open(folder)
        return getattr(artifact, reference.part) if reference.part else artifact


def _is_readable(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except ArtifactError:
        return False
    return True


def _check_not_of_another_version(folder: Path) -> None:
    """Raises WrongArtifact for a manifest that is only unknown to this version; damage leaves no other fields."""
    try:
        found = json.loads((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValueError):
        return
    if isinstance(found, dict) and found.get("key") == folder.name and set(found) != set(Manifest.model_fields):
        raise WrongArtifact(
            f"`{folder}`: its manifest has other fields than those of this version",
            hint="verify it with the version of tsuzuki that made it, or delete that folder",
        )


def _config_of(folder: Path, manifest: Manifest, stage: Stage) -> Any:
    config_type = get_type_hints(stage.function(), include_extras=True)["config"]
    try:
        return TypeAdapter(config_type).validate_python(manifest.config)
    except ValidationError as error:
        first = error.errors()[0]
        raise WrongArtifact(
            f"`{folder / MANIFEST_NAME}`: config.{'.'.join(map(str, first['loc']))}: {first['msg']}",
            hint="run the recipe, which builds it anew beside this one, and delete this folder",
        ) from None


def _of_another_key(folder: Path, manifest: Manifest, request: Request) -> TsuzukiError:
    """Why the same stage with that config and those inputs would now make another artifact."""
    for name, reference in manifest.inputs.items():
        if (now := request.digests.get(name)) != reference.digest:
            found = f"{now[:12]}…" if now else "nothing"
            return DataError(
                f"`{folder}`: was made from `{name}` {reference.digest[:12]}…, found {found} now",
                hint="bring back the files that its config names; or run the recipe, which builds another from the new",
            )
    return WrongArtifact(
        f"`{folder}`: its manifest's config and inputs make the key {request.key[:12]}…, not that folder",
        hint=f"if it was copied, name the store it came from; otherwise delete that folder, then {AGAIN}",
    )
