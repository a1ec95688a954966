"""Our filters as NeMo Curator's filters, modifiers and stages; imported in Curator's interpreter alone.

A Curator user puts single filters into `ScoreFilter(TsuzukiFilter(...))`, takes a whole cascade as stock stages with
`stock_stages`, or as one stage that also says why each document went with `TsuzukiCascade`.
"""

# pyright: reportMissingImports=false
# nemo_curator lives in an environment of its own.
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from nemo_curator.stages.base import ProcessingStage
from nemo_curator.stages.text.filters import DocumentFilter, ScoreFilter
from nemo_curator.stages.text.io.reader.base import BaseFileReader
from nemo_curator.stages.text.modifiers import DocumentModifier, Modify
from nemo_curator.tasks import DocumentBatch, FileGroupTask

from data_contracts.errors import UsageError
from data_contracts.rows import DOCUMENTS, ROWS_PER_GROUP
from tasks.curation.config import FilterConfig, NormalizationConfig
from tasks.curation.corpus_statistics import open_statistics
from tasks.curation.documents import row_groups, split_of
from tasks.curation.filtering import ShardJob, Sifted, add_bins, sift, write_shard
from tasks.curation.filters.base import Edit, Filter, Step, broken_bound
from tasks.curation.normalization import normalize_texts

Kind = TypeVar("Kind", bound=Step)
VERDICTS = "tsuzuki"
"""Where a batch's metadata holds what else became of its documents."""


class TsuzukiFilter(DocumentFilter):
    """One of our filters, such as `HiraganaRatio(min_share=0.1)`: its score of a text, and its bounds."""

    def __init__(self, spec: Step) -> None:
        super().__init__()
        self.spec = _alone(spec, Filter)
        self._name = spec.filter

    def score_document(self, text: str) -> float:
        return float(self.spec.scores(pa.array([text], pa.string()))[0])

    def keep_document(self, scores: float) -> bool:
        return bool(np.isnan(broken_bound(np.array([scores]), self.spec.bounds))[0])


class TsuzukiNormalizer(DocumentModifier):
    """Our cleaning of a text: line ends, control and invisible characters, Unicode form."""

    def __init__(self, config: NormalizationConfig | None = None) -> None:
        super().__init__()
        self.config = config or NormalizationConfig()
        self._name = "tsuzuki_normalizer"

    def modify_document(self, text: str) -> str:
        return normalize_texts(pa.array([text], pa.string()), self.config)[0][0].as_py()


class TsuzukiEdit(DocumentModifier):
    """One of our steps that rewrite a text, such as `MaskPersonalData()`."""

    def __init__(self, spec: Step) -> None:
        super().__init__()
        self.spec = _alone(spec, Edit)
        self._name = spec.filter

    def modify_document(self, text: str) -> str:
        return self.spec.edit(text)[0]


def _alone(spec: Step, kind: type[Kind]) -> Kind:
    """The step, if it is of that kind and needs to know nothing of other documents."""
    if not isinstance(spec, kind) or spec.statistics():
        raise UsageError(
            f"`{spec.filter}`: found a step that is more than one {kind.__name__.lower()} of one text",
            hint="TsuzukiCascade runs steps of any kind",
        )
    return spec


def stock_stages(config: FilterConfig, text_field: str = "text") -> list[ProcessingStage]:
    """Curator's own stages that clean and keep what our filter stage does; they tell nobody why a document went.

    Raises UsageError for a step that is neither one score nor one rewriting of one text.
    """
    return [
        Modify(TsuzukiNormalizer(config.normalization), input_fields=text_field),
        *(_stock_stage(step, text_field) for step in config.cascade),
    ]


def _stock_stage(step: Step, text_field: str) -> ProcessingStage:
    if isinstance(step, Edit):
        return Modify(TsuzukiEdit(step), input_fields=text_field)
    return ScoreFilter(TsuzukiFilter(step), text_field=text_field)


@dataclass
class ShardReader(BaseFileReader):
    """Shards of parquet as Arrow tables, one chunk for each row group.

    Curator's own reader goes through pandas, forgets the row groups and refuses a shard without rows.
    """

    name: str = "tsuzuki_shard_reader"
    allow_empty: bool = True

    def read_data(
        self, file_paths: list[str], read_kwargs: dict[str, Any] | None, fields: list[str] | None
    ) -> pa.Table:
        paths = [Path(path) for path in file_paths]
        empty = pq.read_schema(paths[0]).empty_table().select(fields or pq.read_schema(paths[0]).names)
        return pa.concat_tables([empty, *(t.combine_chunks() for path in paths for t in row_groups(path, fields))])


@dataclass
class TsuzukiCascade(ProcessingStage[DocumentBatch, DocumentBatch]):
    """Cleans the documents of a batch and hands on those that a whole cascade keeps.

    A batch has the columns `id`, `text` and `source`; others pass. Its metadata gets, under VERDICTS, `ledger` and
    `edits` (rows as in `data_contracts.rows`), `counts` and `histograms`, which ShardWriter writes.

    statistics: Arrow files of what the cascade counts over a whole corpus, by name; split: of all documents, by default
    what the name of the first source file begins with.
    """

    config: FilterConfig = field(default_factory=FilterConfig)
    statistics: Mapping[str, str] = field(default_factory=dict)
    split: str | None = None
    name: str = "tsuzuki_cascade"

    def inputs(self) -> tuple[list[str], list[str]]:
        return ["data"], ["id", "text", "source"]

    def outputs(self) -> tuple[list[str], list[str]]:
        return ["data"], ["id", "text", "source"]

    def process(self, task: DocumentBatch) -> DocumentBatch:
        table = _with_plain_strings(task.to_pyarrow())
        statistics = open_statistics({name: Path(path) for name, path in self.statistics.items()})
        split = _split_of(task) if self.split is None else self.split
        # By row group, as the local engine does: edits stand in the order of steps within a group.
        groups = [pa.Table.from_batches([rows]) for rows in table.to_batches(ROWS_PER_GROUP) if rows.num_rows]
        sifted = [sift(group, self.config, statistics, split) for group in groups or [table]]
        histograms: list[dict[str, np.ndarray]] = [{} for _ in self.config.cascade]
        counts: dict[str, int] = {}
        for portion in sifted:
            add_bins(histograms, portion.histograms)
            counts = {name: counts.get(name, 0) + portion.counts.get(name, 0) for name in counts | portion.counts}
        tables = {kind: pa.concat_tables(portion.tables[kind] for portion in sifted) for kind in sifted[0].tables}
        kept = tables.pop("kept")
        verdicts = {**tables, "counts": counts, "histograms": histograms}
        return DocumentBatch(
            dataset_name=task.dataset_name,
            data=kept,
            _metadata={**task._metadata, VERDICTS: verdicts},
            _stage_perf=task._stage_perf,
        )


@dataclass
class ShardWriter(ProcessingStage[DocumentBatch, FileGroupTask]):
    """Writes what a TsuzukiCascade made of a shard: `<folder>/documents/<shard>.parquet`, and into `scratch` its
    ledger, its edits and, when all is whole, its record.
    """

    folder: str
    scratch: str
    config: FilterConfig = field(default_factory=FilterConfig)
    name: str = "tsuzuki_shard_writer"

    def inputs(self) -> tuple[list[str], list[str]]:
        return ["data"], list(DOCUMENTS.names)

    def outputs(self) -> tuple[list[str], list[str]]:
        return ["data"], []

    def process(self, task: DocumentBatch) -> FileGroupTask:
        verdicts = task._metadata[VERDICTS]
        tables = {"kept": task.to_pyarrow(), "ledger": verdicts["ledger"], "edits": verdicts["edits"]}
        shard = Path(task._metadata["source_files"][0])
        job = ShardJob(shard, self.config, Path(self.folder), Path(self.scratch), {})
        result = write_shard(job, [Sifted(tables, verdicts["counts"], verdicts["histograms"])])
        return FileGroupTask(
            dataset_name=task.dataset_name,
            data=[str(job.folder / result.entry.name)],
            _metadata={"source_files": task._metadata["source_files"]},
            _stage_perf=task._stage_perf,
        )


def _split_of(task: DocumentBatch) -> str:
    return split_of(Path(next(iter(task._metadata.get("source_files", [])), "")))


def _with_plain_strings(table: pa.Table) -> pa.Table:
    """The same rows with the string type of our kernels in place of those that pandas hands over."""
    fields = [f.with_type(pa.string()) if pa.types.is_large_string(f.type) else f for f in table.schema]
    return table.cast(pa.schema(fields))
