"""Backend transformers takes every architecture of the table: import with its proofs, training, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_architectures import MODELS, make_model

from micro_model import TEXTS
from tasks.models.architectures import ARCHITECTURES
from tasks.models.base_worker import bring_and_prove
from tasks.models.config import ModelConfig
from tasks.models.folders import read_json, tensor_shapes
from tasks.models.proofs import prove
from tasks.training.backends import TrainingJob
from tasks.training.transformers_backend import run


def no_emit(event: str, **fields: Any) -> None:
    return None


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def test_the_table_has_each_class_once_and_a_reason_where_nemo_does_not_take_it() -> None:
    classes = [row.transformers_class for row in ARCHITECTURES]
    assert len(set(classes)) == len(classes)
    assert all((row.nemo is None) == bool(row.reason) for row in ARCHITECTURES)


def test_every_row_of_the_table_has_a_model_in_the_tests() -> None:
    tried = {f"{kind.removesuffix('Text')}ForCausalLM" for kind, _ in MODELS.values()}
    assert tried == {row.transformers_class for row in ARCHITECTURES}


@pytest.mark.parametrize("name", MODELS)
def test_transformers_imports_trains_and_exports(
    name: str, models: Path, tmp_path: Path, tokens: Any, pretrain_config: Any
) -> None:
    make_model(name, models / name, TEXTS)
    base, output = tmp_path / "base", tmp_path / "output"
    base.mkdir()
    output.mkdir()
    (tmp_path / "scratch").mkdir()
    config = ModelConfig(source=str(models / name), expect_pretrained=False, cpu_threads=1)
    imported = bring_and_prove(config.model_dump(mode="json"), str(base), str(models / name), emit=no_emit)
    job = TrainingJob(
        task="pretrain", model=base, train=tokens.prefix("train"), validation=tokens.prefix("validation"),
        eod_token_id=tokens.manifest.summary.proofs["eod_token_id"], output=output, scratch=tmp_path / "scratch",
        pretrain=pretrain_config(max_steps=3, warmup_steps=0),
    )  # fmt: skip
    result = run(job.model_dump(mode="json"), emit=no_emit)
    assert result["proofs"]["last_loss"] < result["proofs"]["first_loss"]
    counts, proofs = prove(output, must_be_pretrained=False)
    assert counts == imported["counts"]
    assert proofs["tied_embeddings"] == imported["proofs"]["tied_embeddings"]
    assert tensor_shapes(output / "model.safetensors") == tensor_shapes(base / "model.safetensors")
    assert read_json(output / "config.json") == read_json(base / "config.json")
