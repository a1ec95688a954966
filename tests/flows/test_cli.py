"""The command line: light to start, one clear error for each mistake, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from tasks.stages import ALL_STAGES, STAGES


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from flows.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'prefect', 'pyarrow', 'numpy', 'rich', 'yaml'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "domo"], 2, "no such recipe"),
        (["run", "demo", "--set", "pretrain.max_step=1"], 2, "did you mean `pretrain.max_steps`?"),
        (["run", "demo", "--set", "pretrain.max_steps=x"], 2, "valid integer"),
        (["run", "demo", "--config", "/nowhere.yaml"], 2, "no such file"),
        (["run", "demo", "--until", "nowhere"], 2, "no such stage, expected one of acquire"),
        (["run", "demo", "--from", "nowhere"], 2, "no such stage"),
        (["run"], 2, "Missing argument"),
        (["run", "demo", "--stor", "x"], 2, "--store"),
        (["plan", "demo", "--until", "nowhere"], 2, "no such stage"),
        (["show", "domo"], 2, "no such recipe"),
        (["inspect", "/nowhere"], 1, "no manifest.json"),
        (["verify", "/nowhere"], 1, "no artifact there"),
        (["prune", "--store", "/nowhere"], 2, "holds no delivery"),
        (["nowhere"], 2, "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_clear_error_without_traceback(tsuzuki, words, code, message):
    result = tsuzuki(*words, code=code)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout


def test_a_bad_setting_of_the_environment_is_named(tsuzuki, monkeypatch, tmp_path):
    monkeypatch.setenv("TSUZUKI_WORKERS", "many")
    assert "TSUZUKI_WORKERS" in tsuzuki("plan", "demo", "--store", tmp_path, code=2).stderr


def test_a_failed_run_exits_with_1_and_the_hint_and_no_traceback(tsuzuki, tmp_path):
    words = ("--set", "source.kind=local", "--set", "source.path=/nowhere", "--store", tmp_path)
    result = tsuzuki("run", "demo", *words, code=1)
    assert "error: `/nowhere`: found no file" in result.stderr
    assert "hint: set `source.path`" in result.stderr
    assert "Traceback" not in result.stderr


def test_listings_name_every_recipe_and_stage(tsuzuki):
    assert "workshop-qwen25-0.5b" in tsuzuki("recipes").stdout
    table = tsuzuki("stages").stdout.splitlines()
    assert [line.split()[0] for line in table[1:]] == list(ALL_STAGES)
    assert table[1].split()[:3] == ["acquire", "2", "raw_corpus"]


def test_show_prints_yaml_with_the_changes_made(tsuzuki):
    shown = yaml.safe_load(tsuzuki("show", "demo", "--set", "pretrain.max_steps=3").stdout)
    assert shown["pretrain"]["max_steps"] == 3


def test_a_plan_of_an_empty_store_says_new_and_builds_nothing(tsuzuki, tmp_path):
    lines = [json.loads(x) for x in tsuzuki("plan", "demo", "--json", "--store", tmp_path / "s").stdout.splitlines()]
    assert [line["hit"] for line in lines] == [False] * 12
    assert lines[0]["reasons"] == ["new: the store holds no output of this stage"]
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("recipe", ["workshop-qwen25-0.5b", "workshop-qwen25-0.5b-nemo", "ja-wiki-qwen25-0.5b"])
def test_recipes_that_need_the_network_and_a_gpu_are_planned_without_either(tsuzuki, tmp_path, recipe):
    lines = [json.loads(x) for x in tsuzuki("plan", recipe, "--json", "--store", tmp_path).stdout.splitlines()]
    assert {line["stage"] for line in lines} == (ALL_STAGES if recipe.endswith("-nemo") else STAGES).keys()
    assert not any(line["hit"] for line in lines)
