"""The page: stands alone, escapes, shows what is missing as a dash, and does not hide sums that disagree."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from data_contracts.manifest import Summary

SCRIPT = "<script>alert(1)</script>"
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Every element with its attributes, and whether all that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def report_of(pipeline, **config) -> str:
    return (pipeline.deliver(**config).path / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def report(build_pipeline) -> str:
    return report_of(build_pipeline())


def test_page_loads_nothing_from_elsewhere_and_runs_nothing(report):
    page = Page(report)
    assert page.open == []
    assert "script" not in {tag for tag, _ in page.elements}
    assert not [a for _, attributes in page.elements for a in attributes if a == "src" or a.startswith("on")]
    links = {attributes.get("href") for tag, attributes in page.elements if tag not in ("a",) and "href" in attributes}
    assert links == {"data:,"}
    assert "url(" not in report
    assert "@import" not in report


def test_text_of_documents_and_models_is_escaped(report):
    assert SCRIPT not in report
    shown = "&lt;script&gt;alert(1)&lt;/script&gt;"
    reasons, models = report.split('id="reasons"')[1], report.split('id="models"')[1].split('id="training"')[0]
    assert shown in reasons
    assert shown in models


def test_funnel_shows_each_sum_and_that_it_agrees(report):
    assert "✓ All sums agree" in report
    assert report.count("✓ adds up") == 5
    text = re.sub(r"<[^>]+>", "", report)
    assert re.search(r"409 lines in = 400 kept \+\s+7 quarantined \+\s+2 blank lines", text)


@pytest.mark.parametrize(
    ("role", "change", "said"),
    [
        ("filtered", {"num_documents_removed": 24}, "400 came in, 399 are accounted for"),
        ("unique", {"num_documents_in": 370, "num_documents_removed": 19}, "the stage before kept 375, 370 came in"),
        ("corpus", {"num_documents_train": 300}, "300 train and 20 validation are not the 351 kept"),
        ("tokens", {"num_documents_train": 330}, "351 came in, 350 are accounted for"),
    ],
)
def test_sums_that_disagree_are_flagged(build_pipeline, pipeline_configs, role, change, said):
    config = pipeline_configs[role]
    summary = config.summary.model_copy(update={"counts": config.summary.counts | change})
    pipeline = build_pipeline(**{role: config.model_copy(update={"summary": summary})})
    delivery = pipeline.deliver()
    report = (delivery.path / "report.html").read_text(encoding="utf-8")
    assert "✓ All sums agree" not in report
    assert f"✗ {said}" in report
    assert delivery.manifest.summary.proofs["funnel_reconciles"] is False


def test_counts_that_are_missing_cannot_be_checked(build_pipeline, pipeline_configs):
    bare = pipeline_configs["unique"].model_copy(update={"summary": Summary()})
    report = report_of(build_pipeline(unique=bare))
    assert "cannot be checked" in report
    assert "✓ All sums agree" not in report


def test_missing_parts_of_the_evaluation_are_dashes(build_pipeline, pipeline_configs):
    figures = {"models": {"tuned": {"japanese": {"loss": 2.5}, "english": None, "cloze": None, "questions": None}}}
    config = pipeline_configs["evaluation"].model_copy(update={"files": {"evaluation.json": json.dumps(figures)}})
    report = report_of(build_pipeline(evaluation=config))
    cells = re.search(r"Japanese loss \(nats per token\)</th>(.*?)</tr>", report).group(1)  # pyright: ignore
    assert re.findall(r">([^<]+)<", cells) == ["–", "–", "2.500", "–"]
    assert "What they write" not in report


def test_training_without_a_log_has_no_curve(build_pipeline, pipeline_configs):
    files = {"adapter_config.json": "{}", "adapter_model.safetensors": "x"}
    report = report_of(build_pipeline(adapter=pipeline_configs["adapter"].model_copy(update={"files": files})))
    assert "No log of this training was kept" in report
    assert report.count('aria-label="Continued pretraining, ') == 3


def test_reasons_show_figures_and_borderline_examples(report):
    reasons = re.sub(r"<[^>]+>", "", report.split('id="reasons"')[1].split('id="truth"')[0])
    assert "17 documents" in reasons
    assert reasons.index("d0017") < reasons.index("d0016") < reasons.index("d0015")
    assert "score 0.801, bound 0.800" in reasons


def test_number_and_length_of_examples_follow_the_config(build_pipeline):
    report = report_of(build_pipeline(), examples_per_filter=1, excerpt_characters=20)
    assert "d0017" in report
    assert "d0016" not in report
    assert "The quick brown fox …" in report


def test_lineage_proofs_and_licences_are_shown(report, build_pipeline):
    text = re.sub(r"<[^>]+>", " ", report)
    for word in ("every line accounted for", "jaccard · recall", "0.998", "CC-BY-SA-4.0", "Apache-2.0", "base_model"):
        assert word in text
    assert '<a href="https://example.org/data" rel="noreferrer">' in report
