"""The store: built once, never half-seen, rebuilt when gone or damaged, one builder at a time."""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path

import pytest

from data_contracts.artifacts import Corpus, RawCorpus, verify_files
from data_contracts.errors import DamagedArtifact, DataError, MissingArtifact, StorageError, WrongArtifact
from stage_bodies import BodyConfig
from tasks.runtime import Runtime
from tasks.stage import Request, Stage
from tasks.store import Store


def stage(body: str = "write_text", **options) -> Stage:
    return Stage("filter", Corpus, options.pop("revision", 1), f"stage_bodies:{body}", "a test", **options)


def build(store: Path, config: BodyConfig, which: Stage | None = None, rebuild: bool = False, **inputs):
    request = Request.of(which or stage(), config, inputs)
    return Store(store).build(request, Runtime(store=store), rebuild=rebuild)


@pytest.fixture
def config(tmp_path):
    return BodyConfig(witness=tmp_path / "calls")


def calls(config: BodyConfig) -> int:
    return len(config.witness.read_text(encoding="utf-8").splitlines()) if config.witness.exists() else 0


def test_second_build_is_served_from_the_store(tmp_path, config):
    first, second = build(tmp_path / "s", config), build(tmp_path / "s", config)
    assert (first.status, second.status, calls(config)) == ("built", "cached", 1)
    assert first.path == second.path


def test_deleted_output_is_rebuilt_not_served_from_cache(tmp_path, config):
    first = build(tmp_path / "s", config)
    Store(tmp_path / "s").discard(first.path)
    assert build(tmp_path / "s", config).status == "built"
    assert calls(config) == 2


@pytest.mark.parametrize("damage", ["truncated", "missing", "manifest cut"])
def test_damaged_output_is_rebuilt(tmp_path, config, damage):
    path = build(tmp_path / "s", config).path
    if damage == "missing":
        (path / "ledger.parquet").unlink()
    else:
        name = "manifest.json" if damage == "manifest cut" else "ledger.parquet"
        (path / name).write_bytes((path / name).read_bytes()[:-1])
    with pytest.raises(DamagedArtifact, match="hint: delete"):
        Corpus.open(path)
    assert build(tmp_path / "s", config).status == "built"
    assert Corpus.open(path).ledger.read_bytes() == config.text.encode()


def test_a_flipped_byte_is_found_by_hash(tmp_path, config):
    path = build(tmp_path / "s", config).path
    verify_files(path)
    (path / "ledger.parquet").write_bytes(b"x" * len(config.text.encode()))
    Corpus.open(path)  # equal size: opening is meant to be quick
    with pytest.raises(DamagedArtifact, match="sha256"):
        verify_files(path)


def test_key_knows_values_inputs_and_revision_but_no_path(tmp_path, config):
    key = Request.of(stage(), config, {}).key
    assert Request.of(stage(), config.model_copy(update={"witness": tmp_path / "elsewhere"}), {}).key == key
    assert Request.of(stage(), config.model_copy(update={"text": "別"}), {}).key != key
    assert Request.of(stage(revision=2), config, {}).key != key
    source = Corpus.open(build(tmp_path / "s", config).path)
    assert Request.of(stage(), config, {"corpus": source}).key != key


def test_equal_bytes_of_a_rebuilt_input_keep_later_stages_cached(tmp_path, config):
    later = Stage("dedup", Corpus, 1, "stage_bodies:write_text", "a test")
    source = Corpus.open(build(tmp_path / "s", config).path)
    build(tmp_path / "s", config, later, corpus=source)
    revised = Corpus.open(build(tmp_path / "s", config, stage(revision=2)).path)
    assert revised.path != source.path
    assert build(tmp_path / "s", config, later, corpus=revised).status == "cached"


def test_logs_are_hashed_but_do_not_change_the_content_digest(tmp_path, config):
    first = Corpus.open(build(tmp_path / "a", config).path)
    second = Corpus.open(build(tmp_path / "b", config).path)
    assert first.digest == second.digest
    assert {f.name for f in first.manifest.files} == {"ledger.parquet", "logs/when.txt"}


def test_a_failed_stage_leaves_nothing_at_its_final_place(tmp_path, config):
    with pytest.raises(DataError):
        build(tmp_path / "s", config, stage("fail"))
    assert not list((tmp_path / "s").glob("filter/*"))
    assert build(tmp_path / "s", config).status == "built"


def test_a_full_disk_is_one_clear_error(tmp_path, config):
    with pytest.raises(StorageError, match="No space left") as error:
        build(tmp_path / "s", config, stage("fill_disk"))
    assert "hint: free space" in str(error.value)


def test_opening_something_else_says_what_was_found(tmp_path, config):
    path = build(tmp_path / "s", config).path
    with pytest.raises(WrongArtifact, match="found corpus version 1, expected raw_corpus"):
        RawCorpus.open(path)
    with pytest.raises(MissingArtifact):
        Corpus.open(tmp_path)


def _build_in_process(store, config, which, answers):
    answers.put(build(store, config, which).status)


def test_two_processes_build_a_key_once(tmp_path, config):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    arguments = (tmp_path / "s", config, stage("slow"), answers)
    processes = [context.Process(target=_build_in_process, args=arguments) for _ in range(2)]
    [p.start() for p in processes]
    statuses = sorted(answers.get(timeout=60) for _ in processes)
    [p.join() for p in processes]
    assert statuses == ["built", "cached"]
    assert calls(config) == 1


@pytest.mark.parametrize(("resumable", "content"), [(True, b"done so far"), (False, b"from nothing")])
def test_a_killed_builder_is_resumed_only_where_that_is_declared(tmp_path, config, resumable, content):
    which = stage("die_once_then_resume", resumable=resumable)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_build_in_process, args=(tmp_path / "s", config, which, answers))
    process.start()
    process.join(60)
    assert process.exitcode == -9
    built = build(tmp_path / "s", config, which)
    assert built.status == ("resumed" if resumable else "built")
    assert Corpus.open(built.path).ledger.read_bytes() == content


def test_the_manifest_tells_inputs_config_and_counts(tmp_path, config):
    manifest = json.loads((build(tmp_path / "s", config).path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["summary"]["counts"] == {"num_characters": 2}
    assert manifest["config"]["text"] == "続き"
    assert manifest["libraries"]["python"] == sys.version.split()[0]
