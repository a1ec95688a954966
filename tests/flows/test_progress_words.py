"""Progress reads well: bytes in fitting units, a speed, a time left."""

from __future__ import annotations

import pytest

from flows.progress_words import byte_words, duration_words, progress_words


def test_a_download_tells_bytes_speed_and_time_left():
    figures = {"bytes_per_second": 34_120_000.0, "seconds_left": 123.4}
    told = progress_words(1_234_567_890, 5_400_000_000, "bytes", figures)
    assert told == "1.2 GB of 5.4 GB, 34.1 MB/s, 2:03 left"


def test_everything_else_tells_its_count_and_figures():
    assert progress_words(1200, 3000, "documents", {"kept": 7, "loss": 2.31456}) == (
        "1,200 of 3,000 documents, kept 7, loss 2.315"
    )
    assert progress_words(3, None, "steps", {}) == "3 of ? steps"


@pytest.mark.parametrize(
    ("num_bytes", "words"),
    [(0, "0 B"), (999, "999 B"), (999.6, "1.0 kB"), (99_949, "99.9 kB"), (99_951, "100 kB"), (384_020_873, "384 MB")],
)
def test_bytes_have_three_digits_or_so(num_bytes, words):
    assert byte_words(num_bytes) == words


@pytest.mark.parametrize(("seconds", "words"), [(0, "0:00"), (59.6, "1:00"), (3723, "1:02:03"), (90_000, "25:00:00")])
def test_durations_are_clocks(seconds, words):
    assert duration_words(seconds) == words
