"""Each architecture of the table goes through NeMo as the table says: import, the same logits, training, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_architectures import MODELS, make_model

from micro_model import TEXTS
from nemo_environment import ROOT, nemo_python, run_nemo
from tasks.models.architectures import Architecture, architecture_of
from tasks.models.folders import model_files, read_json

pytestmark = pytest.mark.long

CHECKS = ROOT / "tests" / "support" / "nemo_architecture_checks.py"
HALF = "qwen25_tied_bf16"
NAMES = [*MODELS, HALF]
LOGITS_TOLERANCE = {"float32": 1e-5, "bfloat16": 6e-2}
"""Largest difference of a logit, as a share of the largest logit."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nemo_python()
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        make_model(name, folder / name, TEXTS)
    make_model(HALF.removesuffix("_bf16"), folder / HALF, TEXTS, dtype="bfloat16")
    return folder


@pytest.fixture(scope="module")
def checked(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what `nemo_architecture_checks.py` did, its findings in `result.json`."""
    folder = tmp_path_factory.mktemp("checked")
    run_nemo(CHECKS, models, folder, folder / "result.json")
    return folder


@pytest.fixture
def found(checked: Path, name: str) -> dict[str, Any]:
    return json.loads((checked / "result.json").read_text(encoding="utf-8"))[name]


@pytest.fixture
def row(models: Path, name: str) -> Architecture:
    row = architecture_of(read_json(models / name / "config.json")["architectures"][0])
    assert row is not None
    return row


def taken(row: Architecture, found: dict[str, Any]) -> bool:
    """Whether NeMo took the model; where it must not, this is the test of how it was refused."""
    if row.nemo is None:
        assert found["error"] == "ModelError"
        assert row.families[0] in found["message"] and row.reason in found["message"]
        assert "backend transformers" in found["hint"]
        return False
    if row.nemo.needs_engine and "error" in found:
        assert found["error"] == "MissingPackage" and "transformer_engine" in found["message"]
        return False
    assert "error" not in found, found
    return True


@pytest.mark.parametrize("name", NAMES)
def test_nemo_computes_what_transformers_computes(name: str, row: Architecture, found: dict[str, Any]) -> None:
    if taken(row, found):
        tolerance = LOGITS_TOLERANCE["bfloat16" if name == HALF else "float32"]
        assert found["logits_difference"] < tolerance


@pytest.mark.parametrize("name", NAMES)
def test_nemo_trains_every_weight(name: str, row: Architecture, found: dict[str, Any]) -> None:
    if taken(row, found):
        assert found["losses"] == sorted(found["losses"], reverse=True)
        assert found["without_gradient"] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_export_is_the_model_byte_for_byte(
    name: str, row: Architecture, found: dict[str, Any], checked: Path, models: Path
) -> None:
    if taken(row, found):
        names = model_files(models / name)
        assert model_files(checked / name / "exported") == names
        for file in names:
            exported, original = checked / name / "exported" / file, models / name / file
            assert exported.read_bytes() == original.read_bytes(), file


@pytest.mark.parametrize("name", NAMES)
def test_context_vocabulary_tie_tokenizer_and_generation_are_the_models(
    name: str, row: Architecture, found: dict[str, Any], models: Path
) -> None:
    if not taken(row, found):
        return
    from tokenizers import Tokenizer

    config = read_json(models / name / "config.json")
    assert found["seq_length"] == config["max_position_embeddings"]
    assert found["vocab_size"] == config["vocab_size"]
    assert found["shared"] is found["proofs"]["tied_embeddings"] is config["tie_word_embeddings"]
    tokenizer = Tokenizer.from_file(str(models / name / "tokenizer.json"))
    assert found["tokenizer_ids"] == tokenizer.encode(found["text"], add_special_tokens=False).ids
    assert found["generation"]["max_new_tokens"] == 20 and found["generation"]["eos_token_id"] == 0
    assert found["events"] == ["import", "prove"]
