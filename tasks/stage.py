"""What a stage is: a name, an output type, a revision and a plain function; and the identity of one use of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import BaseModel

from data_contracts.artifacts import Artifact, Part
from data_contracts.files import digest_of
from data_contracts.manifest import InputReference
from tasks.runtime import identity


@dataclass(frozen=True)
class Stage:
    """An inert description; nothing heavy is imported until it is built.

    revision: bumped when the same inputs give other bytes. body: `module:function`, called as
    `function(config, workspace, **inputs) -> Summary`. outside: `module:function`, called as `function(config) ->
    {name: digest}` for files that no stage made. resumable: continues from what a killed attempt left in its scratch.
    engines: names of the engines that can run its jobs. retries: how often a lost worker and a network that may come
    back (errors with `retryable`) are tried again, after retry_delays_seconds, which the flow spreads; no other error.
    """

    name: str
    output: type[Artifact]
    revision: int
    body: str
    summary: str
    outside: str | None = None
    resumable: bool = False
    engines: tuple[str, ...] = ("local",)
    retries: int = 0
    retry_delays_seconds: tuple[float, ...] = (5.0, 20.0, 80.0)

    def function(self) -> Callable[..., Any]:
        return _imported(self.body)

    def engine_used(self, wanted: str) -> str:
        """The engine that runs this stage where `wanted` is set: `local` where that one cannot."""
        return wanted if wanted in self.engines else "local"

    def outside_digests(self, config: BaseModel) -> dict[str, str]:
        return _imported(self.outside)(config) if self.outside else {}


def _imported(reference: str) -> Callable[..., Any]:
    module, _, function = reference.partition(":")
    return getattr(import_module(module), function)


@dataclass(frozen=True)
class Request:
    """One use of a stage: its config and inputs, and the key they make."""

    stage: Stage
    config: BaseModel
    inputs: Mapping[str, Artifact | Part]
    outside: Mapping[str, str]

    @classmethod
    def of(cls, stage: Stage, config: BaseModel, inputs: Mapping[str, Artifact | Part]) -> Request:
        return cls(stage, config, inputs, stage.outside_digests(config))

    @property
    def digests(self) -> dict[str, str]:
        return {**{name: value.digest for name, value in self.inputs.items()}, **self.outside}

    @property
    def key(self) -> str:
        """Lower-case hex sha256 of name, revision, input digests and config values; no path, machine or time."""
        return digest_of([self.stage.name, self.stage.revision, self.digests, identity(self.config)])

    def references(self) -> dict[str, InputReference]:
        references = {name: InputReference(digest=digest) for name, digest in self.outside.items()}
        for name, value in self.inputs.items():
            stage, key = value.path.parent.name, value.path.name
            part = value.name if isinstance(value, Part) else None
            references[name] = InputReference(digest=value.digest, stage=stage, key=key, part=part)
        return references
