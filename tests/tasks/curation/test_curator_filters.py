"""Our filters as NeMo Curator's, in Curator's interpreter: same scores, same documents; and what its own ones drop."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from data_contracts.artifacts import RawCorpus
from flows.runs import Run
from tasks.acquire.config import SampleSource
from tasks.acquire.sample import generate
from tasks.curation.config import FilterConfig
from tasks.curation.fasttext_model import shipped_model_path
from tasks.curation.filters import default_cascade
from tasks.curation.filters.base import broken_bound
from tasks.curation.filters.compression_ratio import CompressionRatio
from tasks.curation.filters.language import Language
from tasks.curation.filters.top_ngram import TopNgram
from tasks.curation.filters.url_density import UrlDensity
from tasks.runtime import Runtime
from tasks.stages import ACQUIRE, FILTER

ROOT = Path(__file__).parents[3]
CHECKS = ROOT / "tests" / "support" / "curator_checks.py"
CONFIG = FilterConfig(cascade=(*default_cascade(), CompressionRatio(), TopNgram(), UrlDensity()))
DROP_ALL = {
    *("NonAlphaNumericFilter", "PunctuationFilter", "WordCountFilter", "MeanWordLengthFilter"),
    "CommonEnglishWordsFilter",
}
WHOLE_DOCUMENTS = Language(num_windows=1, window_characters=10**7)


@pytest.fixture(scope="module")
def raw(folders) -> RawCorpus:
    return Run(Runtime(store=folders()))(ACQUIRE, SampleSource(num_documents=400))


@pytest.fixture(scope="module")
def good() -> list[str]:
    """The texts of the sample without any planted fault."""
    return [document.text for document in generate(400, seed=1).documents() if not document.fault]


@pytest.fixture(scope="module")
def found(curator_python: Path, raw, good, hard_texts, folders) -> dict[str, Any]:
    """What `curator_checks.py` found."""
    folder = folders()
    folder.mkdir()
    (folder / "texts.json").write_text(json.dumps({"good": good, "hard": list(hard_texts.values())}), encoding="utf-8")
    (folder / "config.json").write_text(CONFIG.model_dump_json(), encoding="utf-8")
    words = [folder / "texts.json", raw.path / "documents", shipped_model_path(), folder / "config.json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [curator_python, CHECKS, *words, folder / "found.json"], env=environment, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr[-4000:]
    return json.loads((folder / "found.json").read_text(encoding="utf-8"))


def test_a_filter_of_ours_judges_any_text_in_curator_as_it_does_here(found, hard_texts) -> None:
    texts = pa.array(list(hard_texts.values()), pa.string())
    for step in CONFIG.cascade:
        scores = step.scores(texts)
        keeps = np.isnan(broken_bound(scores, step.bounds)).tolist()
        assert found["ours"][step.filter] == [[score, keep] for score, keep in zip(scores.tolist(), keeps, strict=True)]


def test_a_step_that_is_no_filter_is_refused_with_the_way_out(found) -> None:
    assert "`mask_personal_data`: found a step that is more than one filter of one text" in found["refused"]
    assert "hint: TsuzukiCascade runs steps of any kind" in found["refused"]


def test_curators_own_stages_around_our_filters_keep_what_our_stage_keeps(found, raw, run, kept_ids) -> None:
    assert found["kept"] == sorted(kept_ids(run(FILTER, CONFIG, raw=raw)))
    assert 300 < len(found["kept"]) < 400


def test_language_of_good_documents_is_what_curators_fasttext_says(found, good) -> None:
    told = [ast.literal_eval(score) for score in found["languages"]]
    assert {language for _, language in told} == {"ja"}
    ours = WHOLE_DOCUMENTS.scores(pa.array(good, pa.string()))
    np.testing.assert_allclose(ours, np.minimum([score for score, _ in told], 1), rtol=0, atol=1e-4)


def test_curators_own_filters_drop_good_japanese_and_ours_none(found, good, seal_raw, run) -> None:
    dropped = {name: 1 - sum(keeps) / len(keeps) for name, keeps in found["stock_keeps"].items()}
    documents = {"train-00000": [(f"good-{number}", text) for number, text in enumerate(good)]}
    ours = run(FILTER, FilterConfig(), raw=seal_raw(documents))
    assert ours.manifest.summary.counts["num_documents_removed"] == 0
    # Words are what stands between spaces, letters and sentence ends those of ASCII: for all documents, not for some.
    assert {name for name, share in dropped.items() if share == 1} == DROP_ALL
    assert {share for name, share in dropped.items() if name not in DROP_ALL} == {0}
