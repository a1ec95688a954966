"""Repair: damage of every kind is found and built again with the same content; what cannot be is left and explained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import MICRO, digests
from data_contracts.errors import MissingArtifact
from flows.configuration import load_config
from flows.corpus_flow import corpus_story
from flows.inspecting.inspection import verify_path
from flows.inspecting.repair import Outcome, repair_path
from flows.runs import Run, Stopped
from tasks.acquire import sample
from tasks.runtime import Runtime

pytestmark = pytest.mark.filterwarnings("ignore")  # of prefect, imported by this process

STAGES = ("acquire", "filter", "dedup", "split")


def run_corpus(store: Path, corpus: Path) -> list[str]:
    """Runs until split by plain calls; statuses by stage."""
    statuses = []

    class Telling(Run):
        def build(self, request, rebuild):
            built = super().build(request, rebuild)
            statuses.append(built.status)
            return built

    source = f"source={{kind: local, path: '{corpus}'}}"
    with pytest.raises(Stopped):
        corpus_story(load_config("demo", MICRO, (source,)), Telling(Runtime(store=store), until="split"))
    return statuses


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `corpus/`, documents of the sample, and `store/`, the first four stages made from them."""
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "corpus").mkdir()
    rows = [{"id": d.id, "text": d.text} for d in sample.generate(120, seed=7).documents()]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "corpus" / "0.jsonl").write_text(text, encoding="utf-8")
    run_corpus(folder / "store", folder / "corpus")
    return folder


@pytest.fixture
def store(sealed: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of that store; the corpus stays where it is."""
    shutil.copytree(sealed / "store", tmp_path / "store")
    yield tmp_path / "store"


def folder_of(store: Path, stage: str) -> Path:
    return next((store / stage).iterdir())


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def deeds(store: Path) -> dict[str, str | None]:
    return {outcome.path.parent.name: outcome.deed for outcome in repair_path(store)}


@pytest.mark.parametrize("damage", [flip_a_bit, cut, Path.unlink])
def test_every_file_of_every_stage_is_mended_alike(store, sealed, damage):
    before = digests(store)
    for stage in STAGES:
        for entry in json.loads((folder_of(store, stage) / "manifest.json").read_bytes())["files"]:
            if entry["bytes"]:
                damage(folder_of(store, stage) / entry["name"])
    outcomes = list(repair_path(store))
    assert [outcome.path.parent.name for outcome in outcomes] == list(STAGES)  # inputs first
    assert {outcome.deed for outcome in outcomes} == {"rebuilt"}
    assert all(outcome.is_whole and outcome.is_settled for outcome in outcomes)
    assert digests(store) == before
    assert run_corpus(store, sealed / "corpus") == ["cached"] * len(STAGES)


def test_one_artifact_is_mended_with_the_inputs_it_needs_and_no_other(store):
    for stage in ("filter", "dedup", "split"):
        cut(folder_of(store, stage) / "ledger.parquet")
    outcomes = list(repair_path(folder_of(store, "dedup")))
    assert [(outcome.path.parent.name, outcome.deed) for outcome in outcomes] == [
        ("filter", "rebuilt"),
        ("dedup", "rebuilt"),
    ]
    assert dict(verify_path(store))[folder_of(store, "split")]


@pytest.mark.parametrize("content", [b"", b"\x00garbage", b'{"kind": "corpus"}', None])
def test_an_unreadable_manifest_is_discarded_and_the_next_run_builds_it(store, sealed, content):
    before, manifest = digests(store), folder_of(store, "filter") / "manifest.json"
    if content is None:
        manifest.unlink()
    else:
        manifest.write_bytes(content)
    assert deeds(store) == {"acquire": None, "filter": "discarded", "dedup": None, "split": None}
    assert not any((store / "filter").iterdir())
    assert run_corpus(store, sealed / "corpus") == ["cached", "built", "cached", "cached"]
    assert digests(store) == before


def test_what_was_made_from_a_discarded_input_waits_for_the_next_run(store, sealed):
    (folder_of(store, "filter") / "manifest.json").write_bytes(b"{")
    flip_a_bit(folder_of(store, "dedup") / "ledger.parquet")
    told = {outcome.path.parent.name: outcome for outcome in repair_path(store)}
    assert told["filter"].deed == "discarded"
    assert told["dedup"].deed == "failed"
    assert "run the recipe" in told["dedup"].reason
    run_corpus(store, sealed / "corpus")
    assert deeds(store) == {"acquire": None, "filter": None, "dedup": "rebuilt", "split": None}


def test_a_manifest_of_a_newer_version_is_left_alone(store):
    manifest = folder_of(store, "filter") / "manifest.json"
    newer = json.loads(manifest.read_bytes()) | {"signature": "未知"}
    manifest.write_text(json.dumps(newer), encoding="utf-8")
    outcome = next(o for o in repair_path(store) if o.damage)
    assert outcome.deed == "failed"
    assert "version of tsuzuki that made it" in outcome.reason
    assert manifest.is_file()


def test_changed_outside_files_are_an_error_and_nothing_is_lost(store, sealed):
    corpus = sealed / "corpus" / "0.jsonl"
    content = corpus.read_bytes()
    flip_a_bit(folder_of(store, "acquire") / "sources.json")
    corpus.write_bytes(content + b'\n{"id": "new", "text": "\xe6\x96\xb0"}\n')
    try:
        outcome: Outcome = next(o for o in repair_path(store) if o.damage)
    finally:
        corpus.write_bytes(content)
    assert (outcome.deed, outcome.is_whole, outcome.is_settled) == ("failed", False, False)
    assert "was made from `files`" in outcome.reason
    assert "hint: bring back the files" in outcome.reason
    assert folder_of(store, "acquire").is_dir()
    assert deeds(store)["acquire"] == "rebuilt"


def test_content_that_comes_out_otherwise_is_told_as_stale(store):
    """As if the code had changed without a new revision: the manifest knows another content."""
    folder = folder_of(store, "dedup")
    ledger, manifest = folder / "ledger.parquet", json.loads((folder / "manifest.json").read_bytes())
    entry = next(entry for entry in manifest["files"] if entry["name"] == "ledger.parquet")
    entry["sha256"], manifest["digest"] = "0" * 64, "1" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    outcome = next(o for o in repair_path(store) if o.damage)
    assert (outcome.deed, outcome.is_whole, outcome.is_settled) == ("changed", True, False)
    assert "stale" in outcome.reason
    assert ledger.is_file()


def test_an_empty_folder_is_no_store(tmp_path):
    with pytest.raises(MissingArtifact):
        list(repair_path(tmp_path))
