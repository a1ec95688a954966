"""Figures as text, scales of charts, and logs that are not whole."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.deliver.charts import bars, line_chart, thinned, ticks
from tasks.deliver.formats import change, compact, duration, excerpt, number, percent, size
from tasks.deliver.training_log import read_training_log


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3214, "3,214"), (0, "0"), (9.4877, "9.488"), (812.35, "812.4"), (0.0123, "0.012"), (2e-5, "2.00e−05"),
        (25.0, "25"), (12345.6, "12,346"), (-3, "−3"), (None, "–"),
        (math.nan, "–"), (math.inf, "–"), ("x", "–"), (True, "–"),
    ],
)  # fmt: skip
def test_number_is_readable_and_absence_a_dash(value, shown):
    assert number(value) == shown


def test_other_figures_are_readable():
    assert (percent(0.1234), percent(None)) == ("12.3\u00a0%", "–")
    assert (change(10, 5), change(10, 10), change(0, 5), change(None, 5)) == ("−50.0\u00a0%", "±0.0\u00a0%", "–", "–")
    assert (size(512), size(3 << 20), size(None)) == ("512 B", "3.0 MiB", "–")
    assert (duration(0.84), duration(42), duration(200), duration(7500)) == (
        "0.8 s",
        "42 s",
        "3 min 20 s",
        "2 h 05 min",
    )
    assert (compact(1200), compact(2e-4), compact(0.05)) == ("1.2k", "0.0002", "0.05")


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_excerpt_is_one_line_of_bounded_length(text, limit):
    shown = excerpt(text, limit)
    assert "\n" not in shown
    assert len(shown) <= limit + 1


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_ticks_cover_the_values_in_even_steps(one, other):
    low, high = min(one, other), max(one, other)
    marks = ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1e-3)  # marks have twelve decimals
    assert marks[0] <= low + slack
    assert marks[-1] >= high - slack
    assert 2 <= len(marks) <= 9


def test_chart_without_points_is_none():
    assert line_chart("loss", []) is None
    assert bars("loss", [("base", None, "–")]) is None


def test_long_curve_is_thinned_between_its_ends():
    points = [(float(n), float(n)) for n in range(10_001)]
    assert (len(thinned(points)), thinned(points)[0], thinned(points)[-1]) == (400, points[0], points[-1])


def test_log_with_foreign_rows_and_a_torn_line_is_read(tmp_path):
    lines = ['{"step": 2, "loss": 3.0}', "[1]", "not json", '{"loss": 9}', '{"step": 1, "loss": NaN}']
    lines += ['{"step": 2, "loss": 2.5, "other": "x"}', '{"step": 1, "validation_loss": 4}', '{"step": 3, "lo']
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    log = read_training_log(tmp_path)
    assert log["loss"] == [(2.0, 2.5)]
    assert log["validation_loss"] == [(1.0, 4.0)]
    assert log.last("tokens_per_second") is None
