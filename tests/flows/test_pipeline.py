"""The whole pipeline at test size: built, cached, partly rebuilt, planned, verified, pruned, shown by Prefect."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from command_line import MICRO, ROOT, Tsuzuki, digests
from data_contracts.artifacts import Delivery
from tasks.stages import STAGES

GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[tuple[object, ...], Path, dict[str, dict]]:
    """One finished run that the tests of this module share: its arguments, its store, its lines."""
    store = tmp_path_factory.mktemp("finished") / "store"
    words = ("demo", "--config", MICRO, "--store", store)
    return words, store, Tsuzuki().stages(*words)


def plan(words) -> dict[str, dict]:
    lines = Tsuzuki()("plan", *words, "--json").stdout.splitlines()
    return {line["stage"]: line for line in map(json.loads, lines)}


def task_states(name: str) -> list[str]:
    """States of the newest task runs of a stage, newest first, as the Prefect UI would list them."""
    with sqlite3.connect(Path(os.environ["PREFECT_HOME"]) / "prefect.db") as database:
        query = "select state_name from task_run where name like ? order by expected_start_time desc"
        return [row[0] for row in database.execute(query, (f"{name}: %",))]


def test_every_stage_is_built_in_order_and_the_delivery_opens(finished):
    _, _, lines = finished
    assert list(lines) == list(STAGES)
    assert {line["status"] for line in lines.values()} == {"built"}
    delivery = Delivery.open(lines["deliver"]["path"])
    assert (delivery.path / "model" / "model.safetensors").is_file()
    assert (delivery.path / "report.html").is_file()


def manifests(store: Path) -> dict[str, dict]:
    paths = store.glob("[!.]*/*/manifest.json")
    return {p.parent.parent.name: json.loads(p.read_text(encoding="utf-8")) for p in paths}


def test_stages_without_a_model_have_their_golden_digests(finished):
    found = {n: {"revision": m["revision"], "digest": m["digest"]} for n, m in manifests(finished[1]).items()}
    golden = json.loads((GOLDEN / "pipeline.json").read_text(encoding="utf-8"))
    for stage, expected in golden.items():
        changed = found[stage]["digest"] != expected["digest"]
        assert not (changed and found[stage]["revision"] == expected["revision"]), (
            f"the output of `{stage}` changed without a revision bump: {found[stage]}"
        )


def test_trainings_and_evaluation_have_their_golden_figures(finished):
    """Bits differ between kinds of processors; the losses of the same training do not by more than this."""
    golden = json.loads((GOLDEN / "losses.json").read_text(encoding="utf-8"))
    for stage, expected in golden["trainings"].items():
        proofs = manifests(finished[1])[stage]["summary"]["proofs"]
        found = {name: proofs[name] for name in expected}
        assert found == pytest.approx(expected, rel=0.02), f"the training of `{stage}` changed"
    models = manifests(finished[1])["evaluate"]["summary"]["proofs"]["models"]
    found = {name: figures["japanese_bits_per_character"] for name, figures in models.items()}
    assert found == pytest.approx(golden["bits_per_character"], rel=0.02), "the evaluation changed"


def test_documents_and_tokens_reconcile_from_stage_to_stage(finished):
    _, store, _ = finished
    counts = {stage: manifest["summary"]["counts"] for stage, manifest in manifests(store).items()}
    acquired = counts["acquire"]
    lost = acquired["num_quarantined"] + acquired["num_blank_lines"] + acquired["num_documents_unsampled"]
    assert acquired["num_lines_in"] == acquired["num_documents_kept"] + lost
    kept = acquired["num_documents_kept"]
    for stage in ("filter", "dedup", "split"):
        assert counts[stage]["num_documents_in"] == kept
        kept = counts[stage]["num_documents_kept"]
        assert counts[stage]["num_documents_in"] == kept + counts[stage]["num_documents_removed"]
    assert counts["binarize"]["num_documents_train"] + counts["binarize"]["num_documents_validation"] == kept


def test_a_second_run_is_cached_throughout_and_prefect_shows_it(finished):
    words, store, _ = finished
    before = digests(store)
    lines = Tsuzuki().stages(*words)
    assert {line["status"] for line in lines.values()} == {"cached"}
    assert digests(store) == before
    assert all(task_states(stage)[0] == "Cached" for stage in STAGES)
    assert all(line["hit"] for line in plan(words).values())


def test_one_deleted_artifact_is_rebuilt_alone(finished):
    words, _, lines = finished
    shutil.rmtree(lines["dedup"]["path"])
    planned = plan(words)
    assert [stage for stage, line in planned.items() if not line["hit"]] == ["dedup"]
    assert "output missing" in planned["dedup"]["reasons"][0]
    again = Tsuzuki().stages(*words)
    assert [stage for stage, line in again.items() if line["status"] != "cached"] == ["dedup"]
    assert task_states("dedup")[0] == "Completed"


def test_a_damaged_artifact_is_named_by_verify_and_plan_and_rebuilt(finished):
    words, store, lines = finished
    victim = Path(lines["split"]["path"]) / "ledger.parquet"
    victim.write_bytes(victim.read_bytes()[:-1])
    result = Tsuzuki()("verify", store, code=1)
    assert [json.loads(x)["path"] for x in result.stdout.splitlines() if not json.loads(x)["whole"]] == [
        str(victim.parent)
    ]
    assert "output damaged" in plan(words)["split"]["reasons"][0]
    again = Tsuzuki().stages(*words)
    assert [stage for stage, line in again.items() if line["status"] != "cached"] == ["split"]
    Tsuzuki()("verify", store)


def test_a_changed_field_is_named_and_only_its_dependents_run(finished):
    words, _, _ = finished
    changed = plan((*words, "--set", "lora.max_steps=21"))
    assert changed["lora"]["reasons"] == ["config field `max_steps` changed from 20 to 21"]
    assert [stage for stage, line in changed.items() if not line["hit"]] == ["lora", "export", "evaluate", "deliver"]


def test_from_rebuilds_that_stage_and_its_dependents_to_the_same_bytes(finished):
    words, store, _ = finished
    before = digests(store)
    lines = Tsuzuki().stages(*words, "--from", "lora")
    built = [stage for stage, line in lines.items() if line["status"] == "built"]
    assert built == ["lora", "export", "evaluate", "deliver"]
    assert digests(store) == before


def test_until_stops_after_that_stage(finished):
    words, _, _ = finished
    assert list(Tsuzuki().stages(*words, "--until", "split")) == ["acquire", "filter", "dedup", "split"]


def test_inspect_follows_the_lineage_to_the_source(finished):
    _, _, lines = finished
    told = Tsuzuki()("inspect", lines["deliver"]["path"]).stdout
    for stage in STAGES:
        assert f"  {stage} " in told
    assert "tsuzuki-sample" in told


def test_prune_lists_and_deletes_only_what_no_delivery_needs(finished):
    words, store, _ = finished
    Tsuzuki().stages(*words, "--until", "split", "--set", "split.seed=3")
    listed = [json.loads(x)["path"] for x in Tsuzuki()("prune", "--store", store).stdout.splitlines()]
    assert [Path(p).parent.name for p in listed] == ["split"]
    assert Path(listed[0]).is_dir()
    Tsuzuki()("prune", "--store", store, "--yes")
    assert not Path(listed[0]).exists()
    assert all(line["hit"] for line in plan(words).values())


def test_two_concurrent_runs_share_one_store(tsuzuki, tmp_path):
    words = ("demo", "--config", MICRO, "--store", tmp_path / "store", "--until", "split")
    runs = [tsuzuki.start("run", *words) for _ in range(2)]
    assert [run.wait(300) for run in runs] == [0, 0], [run.stderr.read() for run in runs]
    assert set(digests(tmp_path / "store")) == {"acquire", "filter", "dedup", "split"}
    for run in runs:
        run.stderr.close()


@pytest.mark.corpus
def test_the_whole_pipeline_digests_the_real_corpus(tsuzuki, corpus, tmp_path):
    words = ("demo", "--config", MICRO, "--store", tmp_path, "--set", "source={kind: local}")
    lines = tsuzuki.stages(*words, "--set", f"source.path={corpus}", "--set", "source.max_documents=600")
    assert list(lines) == list(STAGES)
    counts = {stage: manifest["summary"]["counts"] for stage, manifest in manifests(tmp_path).items()}
    assert counts["acquire"]["num_lines_in"] == 3762
    assert counts["acquire"]["num_documents_kept"] == counts["filter"]["num_documents_in"] == 600
    assert counts["instructions"]["documents_used"] > 0
    card = (Path(lines["deliver"]["path"]) / "README.md").read_text(encoding="utf-8")
    assert "perplexity" in card.lower()
