"""The delivered folder: what is in it, its checksums, its digest, and what breaks it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from data_contracts.artifacts import verify_files
from data_contracts.errors import DamagedArtifact
from data_contracts.files import hash_file
from tasks.stages import DELIVER

GOLDEN = Path(__file__).parents[2] / "golden" / "deliver.json"


@pytest.fixture
def delivery(build_pipeline):
    return build_pipeline().deliver()


def test_every_file_but_the_list_itself_is_in_the_checksums_with_its_hash(delivery):
    lines = (delivery.path / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    listed = dict(reversed(line.split("  ", 1)) for line in lines)
    there = {p.relative_to(delivery.path).as_posix(): p for p in delivery.path.rglob("*") if p.is_file()}
    assert set(listed) == set(there) - {"SHA256SUMS", "manifest.json"}
    assert {name: hash_file(there[name]).sha256 for name in listed} == listed


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_sha256sum_accepts_the_delivery(delivery):
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=delivery.path, check=True)


def test_folder_holds_what_the_contract_names(delivery):
    names = {p.relative_to(delivery.path).as_posix() for p in delivery.path.rglob("*") if p.is_file()}
    assert names == {
        "README.md", "SHA256SUMS", "manifest.json", "report.html",
        "model/README.md", "model/config.json", "model/generation_config.json", "model/model.safetensors",
        "model/tokenizer.json", "adapter/adapter_config.json", "adapter/adapter_model.safetensors",
        "evaluation/evaluation.json", "evaluation/generations.jsonl", "evaluation/curation.json",
        "evaluation/logs/speed.json",
    }  # fmt: skip
    verify_files(delivery.path)


def test_model_folder_carries_the_card_and_not_the_old_readme(delivery):
    card = (delivery.path / "README.md").read_bytes()
    assert (delivery.path / "model" / "README.md").read_bytes() == card != b"old"


def test_equal_inputs_give_equal_card_and_digest_at_another_time(build_pipeline):
    first, second = build_pipeline("one").deliver(), build_pipeline("two").deliver()
    assert (first.path / "README.md").read_bytes() == (second.path / "README.md").read_bytes()
    assert first.digest == second.digest
    assert first.manifest.created_at != second.manifest.created_at


def test_report_and_checksums_are_no_part_of_the_digest(delivery):
    entries = [e for e in delivery.manifest.files if e.name not in ("report.html", "SHA256SUMS")]
    assert type(delivery).content_digest(entries) == delivery.digest


def test_file_that_changed_after_its_seal_is_not_delivered(build_pipeline):
    pipeline = build_pipeline()
    weights = pipeline.artifacts["tuned"].path / "model.safetensors"
    weights.write_bytes(b"W" + weights.read_bytes()[1:])
    with pytest.raises(DamagedArtifact, match=r"model\.safetensors"):
        pipeline.deliver()


def test_summary_says_whether_the_funnel_reconciles(delivery):
    proofs = delivery.manifest.summary.proofs
    assert proofs["funnel_reconciles"] is True
    assert proofs["funnel_problems"] == []
    assert proofs["licences"] == ["Apache-2.0", "CC-BY-SA-4.0"]


def test_golden_digest(delivery):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = {"digest": delivery.digest, "revision": DELIVER.revision}
    assert found == golden, "the same inputs gave other bytes: bump DELIVER.revision, and CHANGELOG, then this file"
