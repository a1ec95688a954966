"""Run by Curator's interpreter: `python curator_checks.py TEXTS_JSON DOCUMENTS_FOLDER LID_MODEL CONFIG_JSON TARGET`.

Writes one JSON object to TARGET: what our adapters and Curator's own filters make of the texts, and the ids of the
documents that a pipeline of Curator's own stages around our adapters keeps.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import ray
from nemo_curator.backends.ray_data import RayDataExecutor
from nemo_curator.pipeline import Pipeline
from nemo_curator.stages.text.filters.fasttext import FastTextLangId
from nemo_curator.stages.text.filters.heuristic.repetition import RepeatingDuplicateNGramsFilter
from nemo_curator.stages.text.filters.heuristic.string import (
    CommonEnglishWordsFilter,
    MeanWordLengthFilter,
    NonAlphaNumericFilter,
    PunctuationFilter,
    SymbolsToWordsFilter,
    WordCountFilter,
    WordsWithoutAlphabetsFilter,
)
from nemo_curator.stages.text.io.reader import ParquetReader
from nemo_curator.stages.text.io.writer import ParquetWriter

from data_contracts.errors import UsageError
from tasks.curation.config import FilterConfig
from tasks.curation.engines.curator_stages import TsuzukiFilter, stock_stages
from tasks.curation.filters.mask_personal_data import MaskPersonalData

STOCK = (
    NonAlphaNumericFilter,
    PunctuationFilter,
    WordCountFilter,
    MeanWordLengthFilter,
    SymbolsToWordsFilter,
    WordsWithoutAlphabetsFilter,
    CommonEnglishWordsFilter,
    RepeatingDuplicateNGramsFilter,
)


def main(texts_path: str, documents: str, model: str, config_path: str, target: str) -> None:
    texts = json.loads(Path(texts_path).read_text(encoding="utf-8"))
    config = FilterConfig.model_validate_json(Path(config_path).read_text(encoding="utf-8"))
    found = {
        "ours": {step.filter: judged(TsuzukiFilter(step), texts["hard"]) for step in config.cascade},
        "stock_keeps": {stock.__name__: [keep for _, keep in judged(stock(), texts["good"])] for stock in STOCK},
        "languages": languages(model, texts["good"]),
        "refused": refusal(),
        "kept": kept_by_pipeline(documents, config, f"{target}.kept"),
    }
    Path(target).write_text(json.dumps(found), encoding="utf-8")


def judged(document_filter, texts: list[str]) -> list[tuple[float, bool]]:
    scores = [document_filter.score_document(text) for text in texts]
    return [(score, bool(document_filter.keep_document(score))) for score in scores]


def languages(model: str, texts: list[str]) -> list[str]:
    identifier = FastTextLangId(model_path=model, min_langid_score=0.8, lang="ja")
    identifier.model_check_or_download()
    identifier.load_model()
    return [identifier.score_document(text) for text in texts]


def refusal() -> str:
    try:
        TsuzukiFilter(MaskPersonalData())
    except UsageError as error:
        return str(error)
    return ""


def kept_by_pipeline(documents: str, config: FilterConfig, target: str) -> list[str]:
    """Ids that Curator's reader, modifier, score filters and writer leave, on its RayData executor."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    reader = ParquetReader(file_paths=documents, files_per_partition=1)
    Pipeline(name="stock", stages=[reader, *stock_stages(config), ParquetWriter(path=target)]).run(RayDataExecutor())
    return sorted(i for path in Path(target).glob("*.parquet") for i in pq.read_table(path)["id"].to_pylist())


if __name__ == "__main__":
    main(*sys.argv[1:])
