"""Dedup on a GPU: every file it writes is the one that the local engine writes.

The contract itself is in tests/tasks/curation/test_device_engine.py, which runs on a GPU, too; here is what takes one.
"""

import importlib.util
import random
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.artifacts import Corpus
from data_contracts.files import FileEntry
from data_contracts.manifest import Summary
from data_contracts.rows import DOCUMENTS
from tasks.acquire import sample
from tasks.curation.config import DedupConfig
from tasks.curation.deduplication import remove_duplicates
from tasks.runtime import Runtime
from tasks.workspace import Workspace

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(importlib.util.find_spec("cudf") is None, reason="the extra gpu is not installed"),
]
ENGINES = ("local", "cudf")


class Built(NamedTuple):
    files: list[FileEntry]
    summary: Summary


def check_equal(folder: Path, corpus: Path) -> Summary:
    """Builds a corpus on both engines; the summary that they share."""
    made = {}
    for engine in ENGINES:
        workspace = Workspace(folder / engine, Runtime(store=folder, workers=4, engine=engine))
        summary = remove_duplicates(DedupConfig(), workspace, Corpus(path=corpus, digest=""))
        workspace.clear_scratch()
        made[engine] = Built(workspace.files(), summary)
    assert made["cudf"] == made["local"]
    return made["cudf"].summary


def write_shards(folder: Path, shards: dict[str, list[tuple[str, str]]]) -> Path:
    (folder / "documents").mkdir(parents=True)
    for name, rows in shards.items():
        empty = {"source": "test/x:1", "url": "", "title": "", "meta": "{}"}
        table = pa.Table.from_pylist([{"id": i, "text": text, **empty} for i, text in rows], DOCUMENTS)
        pq.write_table(table, folder / "documents" / f"{name}.parquet", row_group_size=700, compression="zstd")
    return folder


def benchmark() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "dedup.py"
    spec = importlib.util.spec_from_file_location("dedup_benchmark", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(path.parent))
        spec.loader.exec_module(module)
    return module


def test_the_sample_of_3000_documents(tmp_path) -> None:
    shards: dict[str, list[tuple[str, str]]] = {"train-00000": [], "train-00001": [], "validation-00000": []}
    for number, document in enumerate(sample.generate(3000, seed=7).documents()):
        shard = "validation-00000" if document.split == "validation" else f"train-0000{number % 2}"
        shards[shard].append((document.id, document.text))
    summary = check_equal(tmp_path / "out", write_shards(tmp_path / "corpus", shards))
    assert summary.counts["removed_by_near_duplicate"] > 20


def test_20000_documents_with_planted_duplicates(tmp_path) -> None:
    families = benchmark().make_corpus(20_000, tmp_path / "corpus")
    summary = check_equal(tmp_path / "out", tmp_path / "corpus")
    assert summary.counts["num_documents_removed"] > len(families) / 2


def test_a_document_of_five_megabytes_beside_small_and_empty_ones(tmp_path) -> None:
    dice = random.Random(5)
    long = "".join(map(chr, dice.choices(range(0x4E00, 0x9000), k=1_700_000)))
    texts = [long, "", long[:-1000] + "…終", "短い", " \n\u3000", long[::-1]]
    rows = [(f"{number}", text) for number, text in enumerate(texts)]
    summary = check_equal(tmp_path / "out", write_shards(tmp_path / "corpus", {"train-00000": rows}))
    assert summary.counts["removed_by_near_duplicate"] == 1 and summary.counts["removed_by_exact_duplicate"] == 1


def test_thousands_of_documents_from_one_template(tmp_path) -> None:
    dice = random.Random(6)
    template = "".join(map(chr, dice.choices(range(0x3041, 0x3097), k=600)))
    ends = ("".join(map(chr, dice.choices(range(0x4E00, 0x9000), k=dice.choice((10, 60, 200))))) for _ in range(3000))
    rows = [(f"{number:04d}", template + end) for number, end in enumerate(ends)]
    check_equal(tmp_path / "out", write_shards(tmp_path / "corpus", {"train-00000": rows}))
