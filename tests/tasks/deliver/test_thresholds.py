"""The histograms of the threshold report: every document is drawn, the cut stands where the bound is."""

import re
from typing import Any

import numpy as np
import pytest

from tasks.curation.histograms import Scale, edges, histogram
from tasks.deliver.thresholds import _drawing, _position


def row(scores: list[float], scale: Scale, lower: float | None, upper: float | None) -> dict[str, Any]:
    bins = histogram(np.array(scores), scale)
    return {
        "label": "x",
        "lower": lower,
        "upper": upper,
        "edges": edges(scale).tolist(),
        "num_documents": bins.tolist(),
    }


@pytest.mark.parametrize("scale", ["share", "count"])
def test_every_score_falls_into_the_bin_whose_edges_hold_it(scale: Scale) -> None:
    scores = np.array([0.0, 0.005, 0.01, 0.29, 0.5, 0.999, 1.0, 3.0, 99.0, 100.0, 12345.0])
    if scale == "share":
        scores = scores[scores <= 1]
    lower = edges(scale)
    for score in scores:
        [place] = np.flatnonzero(histogram(np.array([score]), scale))
        assert lower[place] <= score + 1e-9
        assert place + 1 == len(lower) or score < lower[place + 1]


def test_scores_beyond_the_scale_are_counted_in_the_last_bin() -> None:
    assert histogram(np.array([1.5, np.inf]), "share")[-1] == 2
    assert histogram(np.array([1e12]), "count")[-1] == 1


def test_bars_beyond_a_bound_are_marked_and_the_cut_is_drawn() -> None:
    svg = _drawing(row([0.1] * 4 + [0.5] * 100 + [0.9], "share", 0.2, 0.8))
    bars = re.findall(r'<rect class="bin( out)?" x="([\d.]+)".*?<title>(\d+)</title>', svg)
    assert [(out.strip(), count) for out, _, count in bars] == [("out", "4"), ("", "100"), ("out", "1")]
    cuts = [float(x) for x in re.findall(r'<line class="cut" x1="([\d.]+)"', svg)]
    places = [float(x) for _, x, _ in bars]
    assert places[0] < cuts[0] < places[1] < cuts[1] < places[2]


def test_a_filter_whose_documents_all_have_one_score_is_drawn() -> None:
    assert _drawing(row([5.0], "count", 5.0, None)).count("<rect") == 1
    assert _drawing(row([0.0], "share", None, None)).count("<rect") == 1


def test_position_of_a_bound_lies_within_its_bin() -> None:
    assert _position([0.0, 1.0, 2.0], 0.5) == 0.5
    assert _position([0.0, 1.0, 2.0], 7.0) == 2.0
