"""What the Prefect UI is given to show: names, tables, pictures, and failures in words."""

from __future__ import annotations

import base64
import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.errors import MissingArtifact, TsuzukiError
from data_contracts.manifest import InputReference, Manifest, Summary
from flows.recipes import PipelineConfig
from flows.ui.failures import InWords
from flows.ui.markdown import MAX_CELL_CHARACTERS, cell, figure_rows, lineage_rows, stage_view
from flows.ui.names import named, title_of
from flows.ui.pictures import funnel_picture, score_pictures, training_pictures
from tasks.deliver.funnel import FunnelStep, Part

PUNCTUATION = set("\\&<>|`*_~[]!#:@$^=\"'")
HOSTILE = (
    "<script>alert(1)</script> | `続き` ![見](http://evil.example/x.png) [x](javascript:1)\n\n| a |\n# 題 "
    + "長" * 5000
)


def config(**sections: object) -> PipelineConfig:
    return PipelineConfig.model_validate({"recipe": "demo", **sections})


def test_runs_are_named_after_recipe_step_corpus_and_model():
    assert named("pipeline", {"config": config()}) == "demo: pipeline, sample → tiny"
    told = {"config": config(), "until": "split", "rebuild_from": "filter"}
    assert named("corpus", told) == "demo: corpus until split from filter, sample → tiny"


def test_names_say_the_folders_of_llm_jp_and_the_models_own_name():
    folders = [{"path": "ja/ja_wiki"}, {"path": "ja/ja_cc/level2"}]
    hub = config(source={"kind": "llm_jp", "folders": folders}, model={"source": "hf://Qwen/Qwen2.5-0.5B@main"})
    assert title_of(hub) == "ja_wiki + ja_cc/level2 x Qwen2.5-0.5B"
    local = config(
        source={"kind": "local", "path": "/data/青空{x}"},
        model={"source": "/models/swallow", "expect_pretrained": True},
    )
    assert title_of(local) == "青空_x_ x swallow"
    named_source = config(source={"kind": "local", "path": "/data/a.jsonl", "name": "青空文庫" * 40})
    assert len(title_of(named_source)) < 80
    streamed = config(source={"kind": "huggingface", "dataset": "org/wiki", "config_name": "ja"})
    assert title_of(streamed) == "org/wiki ja x tiny"


def test_a_config_that_is_none_leaves_the_flows_own_name():
    assert named("pipeline", {"config": {"recipe": "demo"}}) == "pipeline"
    assert named("pipeline", {}) == "pipeline"


def test_hostile_text_stays_one_line_of_text_in_a_cell():
    shown = cell(HOSTILE)
    assert "\n" not in shown and len(shown) < 2 * MAX_CELL_CHARACTERS
    assert shown.startswith("\\<script\\>alert(1)\\</script\\> \\| \\`続き\\` \\!\\[見\\](http\\://evil.example")
    assert cell("\u202e逆\u200b\x00語") == "逆 語"


@given(st.text(alphabet=st.one_of(st.sampled_from("\\|<>`*_[]!#:@-+.1w~ \n\t&;"), st.characters()), max_size=300))
def test_every_mark_of_a_text_is_escaped(text):
    shown = cell(text, 1000)
    assert "\n" not in shown and "\r" not in shown
    without_escapes = shown.replace("\\\\", "")
    for place, character in enumerate(without_escapes):
        if character in PUNCTUATION - {"\\"}:
            assert without_escapes[place - 1] == "\\" and place, (text, shown)
    assert not shown.startswith(("-", "+", "1. ", "1) "))


def manifest(stage: str = "filter", **summary: object) -> Manifest:
    return Manifest(
        kind="corpus", contract_version=1, stage=stage, revision=1, key="a" * 64, digest="b" * 64,
        inputs={"raw": InputReference(digest="c" * 64, stage="acquire", key="d" * 64)}, config={},
        summary=Summary.model_validate(summary), sources=[], files=[], engine="local", libraries={},
        created_at=datetime(2026, 11, 21, 3, tzinfo=UTC), seconds=2.0,
    )  # fmt: skip


def test_a_table_says_counts_with_shares_and_rates():
    counts = {"removed_by_length": 50, "num_documents_in": 200, "num_documents_kept": 150, "num_clusters": 3}
    rows = figure_rows(manifest(counts=counts))
    assert [row["figure"] for row in rows] == ["documents in", "documents kept", "clusters", "removed by length"]
    assert rows[1] | {"of all documents": "75"} == {
        "figure": "documents kept", "value": "150", "of all documents": "75", "per second": "75"
    }  # fmt: skip
    assert rows[1]["of all documents"].startswith("75.0") and rows[3]["of all documents"].startswith("25.0")
    assert rows[2]["per second"] == ""


def test_proofs_and_examples_with_hostile_text_are_a_list_of_lines():
    view = stage_view(manifest(proofs={"警告": {HOSTILE: HOSTILE}}, examples=[{"excerpt": HOSTILE, "id": 1}]), {})
    lines = view.splitlines()
    assert [line[:2] for line in lines if line] == ["# ", "##", "- ", "##", "- "]
    assert "<script>" not in view and "](" not in view.replace("\\](", "")


def test_the_lineage_says_what_each_stage_was_made_from():
    [row] = lineage_rows([manifest(counts={"num_documents_kept": 1234})])
    assert (row["stage"], row["made from"], row["what came out"]) == (
        "filter",
        "`cccccc` acquire",
        "documents kept 1,234",
    )
    assert row["digest"] == "`bbbbbbbbbbbb`" and row["sealed (UTC)"].replace("\\", "") == "2026-11-21 03:00:00"


def drawn(pictures: dict[str, str]) -> ElementTree.Element:
    """The one picture, which must be a document of XML by itself."""
    [address] = pictures.values()
    head, _, content = address.partition(",")
    assert head == "data:image/svg+xml;base64"
    return ElementTree.fromstring(base64.b64decode(content))


def test_pictures_are_svg_that_stands_alone_whatever_a_label_holds(tmp_path):
    label = "</text><script>alert(1)</script>&\x01 長さ"
    (tmp_path / "histograms.json").write_text(
        json.dumps([{"label": label, "lower": 2, "upper": None, "num_documents": [1, 5, 9], "edges": [0, 1, 5]}]),
        encoding="utf-8",
    )
    scores = drawn(score_pictures(tmp_path))
    assert not scores.findall(".//{*}script") and "長さ: at least 2" in "".join(scores.itertext())
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 6.0, "learning_rate": 0.1}\n{"step": 2, "loss": 5.0, "validation_loss": 5.5}\n{"st'
    )
    assert {"Loss", "training", "validation"} <= set(drawn(training_pictures(tmp_path)).itertext())
    step = FunnelStep("raw", label, "lines", 10, (Part("kept", "kept", 9), Part("removed", label, 1)), (label,), True)
    assert not drawn(funnel_picture([step])).findall(".//{*}script")


def test_what_has_no_picture_has_none(tmp_path):
    assert score_pictures(tmp_path) == training_pictures(tmp_path) == {}


def records(error: Exception) -> list[tuple[bool, logging.LogRecord]]:
    """What becomes of the records that Prefect makes of one error: the task's, the flow's, the process's."""
    words, found = InWords(), []
    for name in ("prefect.task_runs", "prefect.flow_runs", "prefect.engine"):
        try:
            raise error
        except Exception:
            record = logging.LogRecord(name, 40, "", 1, "Encountered %r", (error,), sys.exc_info())
        found.append((words.filter(record), record))
    return found


def test_an_error_of_ours_is_told_once_in_words():
    found = records(MissingArtifact("`x`: 何もない", hint="run it"))
    assert [kept for kept, _ in found] == [True, False, False]
    assert found[0][1].getMessage() == "MissingArtifact: `x`: 何もない\nhint: run it"
    assert found[0][1].exc_info is None


def test_a_bug_keeps_its_traceback():
    found = records(KeyError("bug"))
    assert all(kept and record.exc_info for kept, record in found)


def test_a_secret_in_an_error_is_not_logged(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_Zq7leaked")
    [first, *_] = records(TsuzukiError("`https://u:p@host`: hf_Zq7leaked refused"))
    assert first[1].getMessage() == "TsuzukiError: `https://***@host`: *** refused"


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_nothing_is_an_empty_cell(text):
    assert cell(text) == ""


def test_paths_keep_their_letters():
    assert cell(str(Path("/mnt/store/filter"))) == "/mnt/store/filter"
