"""Precision and recall against the planted faults."""

from __future__ import annotations

import json

import pytest

from tasks.deliver.lineage import Lineage
from tasks.deliver.truth import curation_truth


@pytest.fixture
def truth(build_pipeline):
    found = curation_truth(Lineage.of(build_pipeline().artifacts))
    assert found is not None
    return found


def test_recall_counts_what_was_planted_and_caught(truth):
    assert truth["faults"]["chinese"] == {
        "num_planted": 6, "num_caught": 5, "num_removed_otherwise": 0, "num_kept": 1, "recall": 5 / 6,
    }  # fmt: skip
    assert truth["faults"]["stub"]["recall"] == 1.0


def test_duplicates_are_counted_by_cluster_whichever_copy_stays(truth):
    assert truth["faults"]["exact_duplicate"]["recall"] == 1.0
    near = truth["faults"]["near_duplicate"]
    assert (near["num_planted"], near["num_caught"], near["num_kept"]) == (12, 11, 1)


def test_distant_variant_that_was_removed_lowers_the_precision(truth):
    assert truth["kept"]["distant_variant"] == {
        "num_documents": 6,
        "num_removed": 1,
        "removed_by": {"near_duplicate": 1},
    }
    assert truth["filters"]["near_duplicate"] == {"num_removed": 12, "num_right": 11, "precision": 11 / 12}
    assert truth["kept"]["none"]["num_removed"] == 0


def test_delivered_figures_equal_the_computed_ones(build_pipeline, truth):
    delivered = build_pipeline().deliver().path / "evaluation" / "curation.json"
    assert json.loads(delivered.read_text(encoding="utf-8")) == truth


def test_corpus_without_a_truth_has_no_such_figures(build_pipeline, pipeline_configs):
    raw = pipeline_configs["raw"].model_copy(update={"files": {}})
    delivery = build_pipeline(raw=raw).deliver()
    assert not (delivery.path / "evaluation" / "curation.json").exists()
    assert "Measured against the truth" not in (delivery.path / "report.html").read_text(encoding="utf-8")


def test_document_that_the_draw_left_out_is_not_counted(build_pipeline, pipeline_configs):
    raw = pipeline_configs["raw"]
    counts = raw.summary.counts | {"num_documents_unsampled": 1}
    more = raw.files["truth/documents.jsonl"] + json.dumps({"id": "unseen", "fault": "english"}) + "\n"
    drawn = raw.model_copy(
        update={"summary": raw.summary.model_copy(update={"counts": counts}), "files": {"truth/documents.jsonl": more}}
    )
    found = curation_truth(Lineage.of(build_pipeline(raw=drawn).artifacts))
    assert found is not None
    assert found["faults"]["english"]["num_planted"] == 6
