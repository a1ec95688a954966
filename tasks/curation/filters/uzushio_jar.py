"""What the real Uzushio keeps of the documents, as the first step of a cascade."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from data_contracts.errors import UsageError
from tasks.curation.filters.base import Batch, Outcome, Scale, Step
from tasks.runtime import NOT_IDENTITY

RESULT = "uzushio_jar"
"""Name under which the rows that the jar wrote are handed to the step."""


class UzushioJar(Step):
    """Documents that the real Uzushio keeps, with the text that it writes; it runs once over the whole corpus.

    Another engine than the step `uzushio`, so another step: what decides is the jar, not this package, and the jar's
    hash is part of the config. It has to be the first step, because it sees all documents before any is judged. Where
    jar and spark-submit lie says the environment (TSUZUKI_UZUSHIO_JAR, TSUZUKI_SPARK_SUBMIT). Each document that it
    does not write stands in the ledger, with the filter that Uzushio named, also those that it leaves out silently
    (2 MiB, 1,000 paragraphs). Unit: documents written, 0 or 1. Source: WorksApplications/uzushio.
    """

    holds_lock: ClassVar[bool] = True

    filter: Literal["uzushio_jar"] = "uzushio_jar"
    jar_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the jar (`sha256sum uzushio.jar`).")
    filters: Path = Field(description="Uzushio's filter file (HOCON).", json_schema_extra=NOT_IDENTITY)
    variables: dict[str, str] = Field(default_factory=dict, description="Values of `${name}` in the filter file.")
    files: dict[str, Path] = Field(
        default_factory=dict,
        description="Values of `${name}` that are files: models, dictionaries.",
        json_schema_extra=NOT_IDENTITY,
    )

    def outside_files(self) -> dict[str, Path]:
        return {"filters": self.filters, **{f"files.{name}": path for name, path in self.files.items()}}

    def scale_of(self, label: str) -> Scale:
        return "count"

    def bounds_of(self, label: str) -> tuple[float | None, float | None]:
        return 1, None

    def apply(self, batch: Batch) -> Outcome:
        from tasks.curation.uzushio.spark import outcome_of

        if RESULT not in batch.statistics:
            raise UsageError(
                "`uzushio_jar`: found a sample of documents, expected a run of the stage `filter` over a corpus",
                hint="use the step `uzushio` to try filters on a sample",
            )
        return outcome_of(batch, batch.statistics[RESULT])

    def reason(self, label: str, score: float, threshold: float) -> str:
        return f"{label}: not among the documents that Uzushio wrote"
