"""`tsuzuki engines`: what is installed is found by its files, what is not comes with the way to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.engines import find_engines, find_gpus
from infra.settings import Settings

ROOT = Path(__file__).parents[2]
NAMES = ["local", "dask", "cudf", "curator", "uzushio_jar"]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith("TSUZUKI_")]:
        monkeypatch.delenv(name)


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_table_names_every_engine_and_what_to_do_about_a_missing_one(tsuzuki) -> None:
    lines = tsuzuki("engines").stdout.splitlines()
    assert lines[0].startswith("GPU: ")
    assert [line.split()[0].rstrip("*") for line in lines[2:7]] == NAMES
    assert lines[2].split()[:2] == ["local*", "yes"]
    assert any(line.startswith("curator: missing TSUZUKI_CURATOR_PYTHON; `make curator`") for line in lines)


def test_json_holds_the_same(tsuzuki) -> None:
    told = json.loads(tsuzuki("engines", "--json").stdout)
    assert set(told) == {"gpus", "engines"}
    engines = {engine["name"]: engine for engine in told["engines"]}
    assert list(engines) == NAMES
    assert engines["local"] | {"hardware": "CPU"} == {
        "name": "local",
        "hardware": "CPU",
        "stages": ["all"],
        "selected": True,
        "missing": [],
        "install": "",
        "installed": True,
    }
    assert engines["dask"]["stages"] == ["acquire", "filter", "dedup", "split", "binarize"]
    assert engines["curator"]["stages"] == ["filter"]
    assert not engines["uzushio_jar"]["installed"]


def test_curator_is_found_in_the_environment_of_its_interpreter(tmp_path) -> None:
    python = program(tmp_path / "env" / "bin" / "python", "exit 1")
    settings = Settings(curator_python=python, engine="curator")
    curator = {engine.name: engine for engine in find_engines(settings, [])}["curator"]
    assert (curator.selected, curator.missing) == (True, ("nemo_curator", "ray", "numba"))
    for package in curator.missing:
        (tmp_path / "env" / "lib" / "python3.11" / "site-packages" / package).mkdir(parents=True)
    curator = {engine.name: engine for engine in find_engines(settings, [])}["curator"]
    assert (curator.installed, curator.install) == (True, "")


def test_an_interpreter_that_is_not_there_is_named() -> None:
    engines = {e.name: e for e in find_engines(Settings(curator_python=Path("/nowhere/python")), [])}
    assert engines["curator"].missing == ("the interpreter /nowhere/python",)


def test_uzushio_needs_both_files(tmp_path) -> None:
    jar, submit = tmp_path / "uzushio.jar", program(tmp_path / "spark-submit", "exit 0")
    settings = Settings(spark_submit=submit, uzushio_jar=jar)
    assert find_engines(settings, [])[-1].missing == ("TSUZUKI_UZUSHIO_JAR",)
    jar.write_bytes(b"PK")
    assert find_engines(settings, [])[-1].installed


@pytest.mark.parametrize(
    ("script", "gpus"),
    [
        ("echo 'NVIDIA H200, 143771 MiB'; echo 'NVIDIA H200, 143771 MiB'", ["NVIDIA H200, 143771 MiB"] * 2),
        ("echo 'NVIDIA-SMI has failed'; exit 9", []),
    ],
    ids=["two", "no driver"],
)
def test_gpus_are_those_that_nvidia_smi_tells_of(script, gpus, tmp_path, monkeypatch) -> None:
    program(tmp_path / "nvidia-smi", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_gpus() == gpus
    missing = {engine.name: engine for engine in find_engines(Settings(), gpus)}["cudf"].missing
    assert ("an NVIDIA GPU" in missing) == (not gpus)


def test_no_engine_is_imported_to_be_looked_for() -> None:
    script = (
        "import sys; from flows.engines import *; find_engines(Settings(), [])\n"
        "heavy = {'torch', 'numba', 'dask', 'distributed', 'cudf', 'ray', 'prefect'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=ROOT)
