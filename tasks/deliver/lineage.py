"""Everything a delivery is made from: the artifacts by role, and their manifests read once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from data_contracts.artifacts import Artifact
from data_contracts.manifest import DataSource, Manifest

ROLES = (
    "raw", "filtered", "unique", "corpus", "base", "tokens", "continued", "instructions", "adapter", "tuned",
    "evaluation",
)  # fmt: skip
"""Parameter names of `deliver`, in the order in which the pipeline makes them."""

TITLES = {
    "raw": "Acquire",
    "filtered": "Filter",
    "unique": "Deduplicate",
    "corpus": "Split",
    "base": "Base model",
    "tokens": "Binarize",
    "continued": "Pretrain",
    "instructions": "Instructions",
    "adapter": "LoRA",
    "tuned": "Export",
    "evaluation": "Evaluate",
}


@dataclass(frozen=True)
class Step:
    """One stage on the way to the delivery."""

    role: str
    artifact: Artifact
    manifest: Manifest

    @property
    def title(self) -> str:
        return TITLES[self.role]

    @property
    def counts(self) -> dict[str, int]:
        return self.manifest.summary.counts

    @property
    def proofs(self) -> list[tuple[str, Any]]:
        """What was checked at this border: (dotted name, plain value)."""
        return [(name, value) for name, value in leaves(self.manifest.summary.proofs) if name]

    @property
    def settings(self) -> list[tuple[str, Any]]:
        """The stage's config: (dotted name, plain value)."""
        return [(name, value) for name, value in leaves(self.manifest.config) if name]


@dataclass(frozen=True)
class Lineage:
    steps: dict[str, Step]

    @classmethod
    def of(cls, artifacts: Mapping[str, Artifact]) -> Lineage:
        """The steps of the artifacts passed to `deliver`, by parameter name."""
        return cls({role: Step(role, artifacts[role], artifacts[role].manifest) for role in ROLES})

    def __getitem__(self, role: str) -> Step:
        return self.steps[role]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps.values())

    def count(self, role: str, name: str) -> int | None:
        """A count of that step's manifest, None where it has none of that name."""
        return self.steps[role].counts.get(name)

    @property
    def weight_sources(self) -> list[DataSource]:
        """Where the base model's weights come from."""
        return self.steps["base"].manifest.summary.sources

    @property
    def data_sources(self) -> list[DataSource]:
        """Every data set that went into the weights, in the order in which the pipeline met them."""
        everything = [source for step in self for source in step.manifest.sources]
        return [source for source in dict.fromkeys(everything) if source not in self.weight_sources]


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The plain values of a nested mapping with dotted names; lists stay whole."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
