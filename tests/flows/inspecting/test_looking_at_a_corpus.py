"""`inspect --ledger`, `explain` and `try-filters`: what they say is what lies on disk."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_contracts.errors import DataError, MissingArtifact
from data_contracts.token_files import TokenFile
from flows.corpus_flow import CorpusResult, corpus_story
from flows.inspecting import accounting, explaining
from flows.recipes import PipelineConfig
from flows.runs import Run
from tasks.acquire import sample
from tasks.runtime import Runtime

NUM_DOCUMENTS = 400


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def made(store) -> CorpusResult:
    config = PipelineConfig.model_validate({"source": {"kind": "sample", "num_documents": NUM_DOCUMENTS}})
    return corpus_story(config, Run(Runtime(store=store)))


def test_accounts_of_a_run_add_up_from_lines_to_tokens(made, store) -> None:
    accounts = {account.stage: account for account in accounting.accounts(store)}
    assert list(accounts) == ["acquire", "filter", "dedup", "split", "binarize"]
    assert not any(account.problems for account in accounts.values())
    assert accounts["filter"].removed_by["language"] > 0
    tokens = sum(TokenFile(made.tokens.prefix(split)).num_tokens for split in ("train", "validation"))
    assert sum(accounts["binarize"].tokens.values()) == tokens


def test_accounts_of_an_artifact_end_with_it(made) -> None:
    assert [account.stage for account in accounting.accounts(made.unique.path)] == ["acquire", "filter", "dedup"]


def test_figures_that_do_not_add_up_are_told_with_exit_code_1(made, tsuzuki, tmp_path) -> None:
    copied = tmp_path / "store"
    for artifact in (made.raw, made.filtered):
        target = copied / artifact.path.parent.name / artifact.path.name
        target.mkdir(parents=True)
        (target / "manifest.json").write_bytes((artifact.path / "manifest.json").read_bytes())
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["summary"]["counts"]["num_documents_kept"] -= 1
    (target / "manifest.json").write_text(json.dumps(manifest))
    result = tsuzuki("inspect", "--ledger", copied, code=1)
    assert "DOES NOT ADD UP" in result.stdout
    assert f"{manifest['summary']['counts']['num_documents_in']} documents came in" in result.stdout


def test_life_of_a_kept_document_goes_from_its_line_to_its_tokens(made, store) -> None:
    rows = pq.read_table(made.tokens.path / "train_tokens.parquet").to_pylist()
    place = len(rows) // 2
    events = explaining.life_of(store, rows[place]["id"])
    assert [event["stage"] for event in events] == ["acquire", "filter", "dedup", "split", "binarize"]
    assert all(event["event"] == "kept" for event in events)
    assert events[0]["source"].startswith("tsuzuki-sample/ja/ja_wiki/train_")
    assert (events[-1]["index"], events[-1]["num_tokens"]) == (place, rows[place]["num_tokens"])
    assert rows[place]["id"] in json.dumps(events) or events[-1]["split"] == "train"


@pytest.mark.parametrize("stage", ["filter", "dedup"])
def test_life_of_a_removed_document_ends_with_the_reason(made, store, stage) -> None:
    artifact = {"filter": made.filtered, "dedup": made.unique}[stage]
    row = pq.read_table(artifact.ledger).to_pylist()[0]
    last = explaining.life_of(store, row["id"])[-1]
    assert (last["stage"], last["event"], last["reason"]) == (stage, "removed", row["reason"])
    assert last.get("kept_id") == row["kept_id"]


def test_survivor_names_the_duplicates_that_went_for_it(made, store) -> None:
    row = pq.read_table(made.unique.ledger).to_pylist()[0]
    life = {event["stage"]: event for event in explaining.life_of(store, row["kept_id"])}
    assert row["id"] in life["dedup"]["duplicates_removed"]


def test_unknown_document_is_answered_with_ids_that_are_alike(made, store) -> None:
    with pytest.raises(DataError, match="no document of that id") as error:
        explaining.life_of(store, "sample-0001")
    assert "sample-00010" in error.value.hint


def test_a_store_without_a_corpus_is_named(tmp_path) -> None:
    with pytest.raises(MissingArtifact, match="neither an artifact nor a store"):
        accounting.accounts(tmp_path)


def test_explain_and_ledger_speak_json_lines_on_request(made, store, tsuzuki) -> None:
    identifier = pq.read_table(made.unique.ledger)["id"][0].as_py()
    events = [
        json.loads(line) for line in tsuzuki("explain", store, "--document", identifier, "--json").stdout.splitlines()
    ]
    assert events == explaining.life_of(store, identifier)
    accounts = [json.loads(line) for line in tsuzuki("inspect", "--ledger", "--json", store).stdout.splitlines()]
    assert [account["stage"] for account in accounts][-1] == "binarize"
    assert "adds up" in tsuzuki("inspect", "--ledger", store).stdout


def test_trial_of_filters_tells_what_the_filter_stage_then_does(made, tsuzuki, tmp_path) -> None:
    sample.write(sample.generate(NUM_DOCUMENTS, seed=7), tmp_path)
    trials = [
        json.loads(line) for line in tsuzuki("try-filters", tmp_path, "--json", "--examples", "1").stdout.splitlines()
    ]
    counts = made.filtered.manifest.summary.counts
    assert {t["label"]: t["num_removed"] for t in trials} == {
        t["label"]: counts[f"removed_by_{t['label']}"] for t in trials
    }
    [language] = [trial for trial in trials if trial["label"] == "language"]
    gone, stayed = language["examples"]
    assert gone["removed"] and not stayed["removed"]
    assert gone["score"] < language["lower"] <= stayed["score"]


def test_trial_takes_another_cascade_by_preset_or_value(tsuzuki, tmp_path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "短い文。"}\n')
    told = tsuzuki("try-filters", tmp_path / "texts.jsonl").stdout
    assert "1 documents: 0 stay, 1 go (100.0%)" in told
    kept = tsuzuki("try-filters", tmp_path / "texts.jsonl", "--set", "filters.cascade.0.min_characters=1").stdout
    assert " 2 symbol_ratio" in kept and " 2 symbol_ratio" not in told
    lines = tsuzuki("try-filters", tmp_path, "--set", "filters.preset=web", "--json").stdout.splitlines()
    assert json.loads(lines[0])["lower"] == 200
