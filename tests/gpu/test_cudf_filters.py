"""The stage filter with scores by a GPU: every file it writes is the one that the local engine writes.

The contract itself is in tests/tasks/curation/test_device_filters.py, which runs on a GPU, too; here are threads and
processes that share it.
"""

import importlib.util
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.artifacts import RawCorpus
from data_contracts.manifest import Summary
from data_contracts.rows import DOCUMENTS
from tasks import parallel
from tasks.acquire import sample
from tasks.curation.config import FilterConfig
from tasks.curation.filtering import filter_documents
from tasks.curation.filters import MaskPersonalData, default_cascade
from tasks.runtime import Runtime
from tasks.workspace import Workspace

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="the extra gpu is not installed"),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six shards of the sample; with characters of all planes, and documents of a megabyte."""
    folder, dice = tmp_path_factory.mktemp("corpus"), random.Random(4)
    (folder / "documents").mkdir()
    for number in range(6):
        texts = [one.text for one in sample.generate(3000, seed=number).documents()]
        ranges = (range(0x20, 0x2FF), range(0x2000, 0x3100), range(0x4E00, 0xA000), range(0x1F000, 0x20000))
        texts += [
            "".join(chr(dice.choice(dice.choice(ranges))) for _ in range(dice.randint(0, 900))) for _ in range(500)
        ]
        texts += ["同じ行が続く文書です。\n" * 30_000, texts[0] * 1000, "", "\n"]
        empty = {"source": "test/x:1", "url": "", "title": "", "meta": "{}"}
        rows = [{"id": f"{number}-{n}", "text": text, **empty} for n, text in enumerate(texts)]
        table = pa.Table.from_pylist(rows, DOCUMENTS)
        pq.write_table(table, folder / "documents" / f"train-{number:05d}.parquet", row_group_size=1100)
    return folder


def check_equal(folder: Path, corpus: Path, config: FilterConfig) -> Summary:
    """Filters a corpus on both engines; the summary that they share."""
    made = {}
    for engine in ("local", "cudf"):
        workspace = Workspace(folder / engine, Runtime(store=folder, workers=3, engine=engine))
        summary = filter_documents(config, workspace, RawCorpus(path=corpus, digest=""))
        workspace.clear_scratch()
        made[engine] = workspace.files(), summary
    assert made["cudf"] == made["local"]
    return made["cudf"][1]


@pytest.mark.parametrize("preset", ["default", "web"])
def test_threads_share_a_gpu(corpus, tmp_path, monkeypatch, preset) -> None:
    monkeypatch.setattr(parallel, "INLINE_BYTES", 0)
    summary = check_equal(tmp_path, corpus, FilterConfig.model_validate({"preset": preset}))
    assert summary.counts["num_documents_removed"] > 3000 < summary.counts["num_documents_kept"]


def test_processes_share_a_gpu(corpus, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(parallel, "INLINE_BYTES", 0)
    config = FilterConfig(cascade=(MaskPersonalData(), *default_cascade()))  # the first step holds Python's lock
    assert check_equal(tmp_path, corpus, config).counts["removed_by_repetition"] > 50
