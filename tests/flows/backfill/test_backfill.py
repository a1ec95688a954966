"""A backfill: every config is valid before the first run, each run has its line, one that fails stops no other."""

from __future__ import annotations

import json

import pytest

from command_line import MICRO
from data_contracts.errors import ConfigError, UsageError
from flows.backfill.fillings import fillings, months_of
from flows.configuration import load_config


def test_months_run_from_the_first_to_the_last_over_the_turn_of_the_year():
    assert months_of("2024-11..2025-02") == ["2024-11", "2024-12", "2025-01", "2025-02"]
    assert months_of("2025-03") == ["2025-03"]


@pytest.mark.parametrize("span", ["2025-13..2026-01", "2025-02..2025-01", "2025-1..2025-2", "2025-01...2025-02", ""])
def test_what_is_no_span_of_months_is_refused(span):
    with pytest.raises(UsageError, match="--months"):
        months_of(span)


def test_a_month_is_put_into_the_file_and_the_assignments(tmp_path):
    file = tmp_path / "月.yaml"
    file.write_text("source: {kind: local, path: 'コーパス/{month}/*.jsonl'}\n", encoding="utf-8")
    found = fillings("demo", file, (), None, "2025-01..2025-02")
    assert [filling.value for filling in found] == ["2025-01", "2025-02"]
    assert [str(filling.config.source.path) for filling in found] == [  # pyright: ignore[reportAttributeAccessIssue]
        "コーパス/2025-01/*.jsonl",
        "コーパス/2025-02/*.jsonl",
    ]
    words = ("source={kind: local, path: /x/{month}.jsonl}",)
    assert fillings("demo", None, words, None, "2025-03")[0].config == load_config(
        "demo", None, ("source={kind: local, path: /x/2025-03.jsonl}",)
    )


def test_all_configs_are_valid_before_the_first_run(tsuzuki, tmp_path):
    told = tsuzuki("backfill", "demo", "--over", "source.seed=1,x", "--store", tmp_path / "store", code=2)
    assert "seed`: found 'x'" in told.stderr and not told.stdout
    assert not (tmp_path / "store").exists()
    with pytest.raises(ConfigError, match="no such key"):
        fillings("demo", None, (), "source.sed=1,2", None)


@pytest.mark.parametrize(
    ("over", "months", "message"),
    [
        (None, None, "expected one of --over and --months"),
        ("source.seed=1", "2025-01", "expected one of --over and --months"),
        (None, "2025-01..2025-02", "the same config for both"),
        ("source.seed=1,2,1", None, "`1` and `1`: found the same config"),
        ("source.seed=1,,2", None, "expected KEY=V1,V2"),
        ("source.seed", None, "expected KEY=V1,V2"),
    ],
)
def test_a_mistake_in_what_to_fill_is_one_clear_error(over, months, message):
    with pytest.raises(UsageError, match=message):
        fillings("demo", None, (), over, months)


def test_a_run_that_fails_has_its_line_and_its_error_and_the_exit_code_is_1(tsuzuki, tmp_path):
    source = f"source={{kind: local, path: '{tmp_path}/無い-{{month}}.jsonl'}}"
    words = ("--set", source, "--months", "2025-01", "--until", "acquire", "--store", tmp_path / "store")
    told = tsuzuki("backfill", "demo", "--config", MICRO, *words, code=1)
    line = json.loads(told.stdout)
    assert (line["value"], line["status"], line["delivery"]) == ("2025-01", "failed", None)
    assert line["error"].startswith("`") and "無い-2025-01.jsonl" in line["error"] and "hint" not in line["error"]
    assert "2025-01: error: " in told.stderr and "Traceback" not in told.stderr
