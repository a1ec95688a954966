"""What a run would do, stage by stage, and why: the same story told to something that only looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from data_contracts.artifacts import Artifact
from data_contracts.errors import ArtifactError
from data_contracts.manifest import Manifest
from flows.runs import Stopped
from tasks.runtime import identity
from tasks.stage import Request, Stage
from tasks.store import Store


@dataclass(frozen=True)
class Pending:
    """An output that a plan does not find; `digest` is what others know it by under the same key, if any do."""

    stage: str
    digest: str | None

    @property
    def tokenizer(self) -> Pending:
        return Pending(self.stage, None)


@dataclass(frozen=True)
class Planned:
    """What a run would do with one stage, and why."""

    stage: str
    hit: bool
    reasons: list[str]


@dataclass
class Plan:
    """Called like a Run; it builds nothing and collects a Planned for each stage."""

    store: Store
    rebuild_from: str | None = None
    until: str | None = None
    stages: list[Planned] = field(default_factory=list)
    rebuilt: set[str] = field(default_factory=set)

    def __call__(self, stage: Stage, config: BaseModel, **inputs: Any) -> Any:
        found, reasons = self._look(stage, config, inputs)
        self.stages.append(Planned(stage.name, not reasons, reasons))
        if stage.name == self.until:
            raise Stopped
        if not reasons:
            return found
        return Pending(stage.name, self._expected_digest(stage, config, inputs))

    def _look(self, stage: Stage, config: BaseModel, inputs: dict[str, Any]) -> tuple[Artifact | None, list[str]]:
        if forced := self._forced(stage, inputs):
            self.rebuilt.add(stage.name)
            return None, [forced]
        pending = {name: value for name, value in inputs.items() if isinstance(value, Pending) and not value.digest}
        if pending:
            return None, [f"input `{name}` is built first by {value.stage}" for name, value in pending.items()]
        request = Request.of(stage, config, inputs)
        try:
            return stage.output.open(self.store.sealed(request)), []
        except ArtifactError as error:
            damage = [] if not self.store.sealed(request).exists() else [f"output damaged: {error.message}"]
        if damage:
            return None, damage
        if self._referenced(request):
            return None, ["output missing: it was sealed before and other artifacts refer to it"]
        return None, self._differences(request)

    def _forced(self, stage: Stage, inputs: dict[str, Any]) -> str | None:
        if stage.name == self.rebuild_from:
            return "rebuild asked for"
        for name, value in inputs.items():
            maker = value.stage if isinstance(value, Pending) else value.path.parent.name
            if maker in self.rebuilt:
                return f"input `{name}` is rebuilt by {maker}"
        return None

    def _expected_digest(self, stage: Stage, config: BaseModel, inputs: dict[str, Any]) -> str | None:
        """The digest under which others refer to this very key; a rebuild is expected to give it again."""
        if any(isinstance(v, Pending) and not v.digest for v in inputs.values()) or stage.name in self.rebuilt:
            return None
        return self._referenced(Request.of(stage, config, inputs))

    def _referenced(self, request: Request) -> str | None:
        for _, manifest in self.store.manifests():
            for reference in manifest.inputs.values():
                if (reference.stage, reference.key) == (request.stage.name, request.key) and not reference.part:
                    return reference.digest
        return None

    def _differences(self, request: Request) -> list[str]:
        """How the request differs from the newest artifact of its stage."""
        newest = max(self.store.manifests(request.stage.name), key=lambda item: item[1].created_at, default=None)
        if newest is None:
            return ["new: the store holds no output of this stage"]
        manifest = newest[1]
        reasons = []
        if manifest.revision != request.stage.revision:
            reasons.append(f"revision bumped from {manifest.revision} to {request.stage.revision}")
        reasons += _input_changes(manifest, request) + _config_changes(manifest, request)
        return reasons or ["new: sealed with other inputs and config before"]


def _input_changes(manifest: Manifest, request: Request) -> list[str]:
    before = {name: reference.digest for name, reference in manifest.inputs.items()}
    now = request.digests
    return [f"input `{name}` changed" for name in sorted(before | now) if before.get(name) != now.get(name)]


def _config_changes(manifest: Manifest, request: Request) -> list[str]:
    before, now = dict(flattened(manifest.config)), dict(flattened(identity(request.config)))
    full = dict(flattened(request.config.model_dump(mode="json")))
    compared = [name for name in sorted(before | now) if name in now or name not in full]
    missing = object()
    return [
        f"config field `{name}` changed from {_shown(before, name)} to {_shown(now, name)}"
        for name in compared
        if before.get(name, missing) != now.get(name, missing)
    ]


def _shown(values: dict[str, Any], name: str) -> str:
    return repr(values[name]) if name in values else "(absent)"


def flattened(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """(dotted path, leaf) pairs of nested dicts and lists."""
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and value:
        items = enumerate(value)
    else:
        return [(path, value)]
    return [pair for key, inner in items for pair in flattened(inner, f"{path}.{key}".lstrip("."))]
