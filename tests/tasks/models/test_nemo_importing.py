"""Stage `nemo_checkpoint`: what it writes, what it refuses, and a config as two versions of transformers word it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_contracts.artifacts import HfModel, NemoCheckpoint
from data_contracts.errors import MissingPackage, ModelError, SourceError, StorageError
from nemo_environment import nemo_python
from tasks.models.config import NemoImportConfig
from tasks.models.folders import read_json, write_json
from tasks.models.nemo_folder import TOKENIZER, connector_for, in_older_words, make_view, weight_dtype
from tasks.models.nemo_import import import_checkpoint
from tasks.models.nemo_importing import import_nemo
from tasks.runtime import Runtime
from tasks.stages import NEMO_CHECKPOINT
from tasks.workspace import Workspace


def no_emit(event: str, **fields: Any) -> None:
    return None


@pytest.fixture
def model(micro_model: Path, tmp_path: Path) -> Path:
    """A copy of the micro model that a test may change."""
    return Path(shutil.copytree(micro_model, tmp_path / "model"))


def change_config(model: Path, **changes: Any) -> None:
    write_json(model / "config.json", {**read_json(model / "config.json"), **changes})


def test_the_stage_writes_weights_and_context_without_a_path_of_the_machine(model: Path, tmp_path: Path) -> None:
    write_json(model / "tokenizer_config.json", {
        **read_json(model / "tokenizer_config.json"),
        "tokenizer_class": "TokenizersBackend",
        "extra_special_tokens": ["<|im_start|>"],
    })  # fmt: skip
    shown: list[tuple[int, int | None]] = []
    workspace = Workspace(
        tmp_path / "out",
        Runtime(store=tmp_path, nemo_python=nemo_python()),
        lambda done, total=None, unit="", **figures: shown.append((done, total)),
    )
    summary = NEMO_CHECKPOINT.function()(
        NemoImportConfig(free_disk_ratio=1), workspace, HfModel(path=model, digest="0" * 64)
    )
    assert summary.counts == {"parameters": 25888}
    assert summary.proofs == {"tensors_equal": 27, "tied_embeddings": True}
    assert shown == [(0, 2), (1, 2), (2, 2)]
    names = {entry.name for entry in workspace.files()}
    assert {"weights/.metadata", "weights/common.pt", "weights/metadata.json", "context/io.json"} <= names
    assert all(name.startswith(("weights/", "context/")) for name in names)
    context = "".join(p.read_text(encoding="utf-8") for p in (workspace.path / "context").rglob("*") if p.is_file())
    assert str(tmp_path) not in context and "tsuzuki-view" not in context
    assert not [name for name in names if name.endswith(".safetensors")]


def test_without_an_interpreter_that_has_nemo_the_setting_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingPackage) as caught:
        import_nemo(
            NemoImportConfig(), Workspace(tmp_path / "out", Runtime(store=tmp_path)), HfModel(path=model, digest="0")
        )
    assert "TSUZUKI_NEMO_PYTHON" in caught.value.hint


def test_the_plan_of_the_weights_is_no_part_of_the_content() -> None:
    assert NemoCheckpoint.is_volatile("weights/.metadata")
    assert not NemoCheckpoint.is_volatile("weights/__0_0.distcp") and not NemoCheckpoint.is_volatile("context/io.json")


def test_a_disk_with_too_little_room_is_refused_before_anything_is_written(model: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"GB are free, expected 1e\+12 times the model's"):
        import_checkpoint(model, tmp_path / "out" / "nemo", no_emit, free_disk_ratio=1e12)
    assert not (tmp_path / "out").exists()


def test_pickled_weights_are_refused(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    torch.save({}, model / "pytorch_model.bin")
    with pytest.raises(SourceError, match="only pickled weights"):
        import_checkpoint(model, tmp_path / "nemo", no_emit)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["BloomForCausalLM"]}, "NeMo cannot take BloomForCausalLM, expected one of Llama 2"),
        ({"architectures": None}, "NeMo cannot take none"),
        ({"architectures": ["FalconForCausalLM"]}, "Falcon .FalconForCausalLM.: NeMo 2.7.3 has no connector"),
        ({"hidden_act": "gelu"}, "hidden_act is gelu; NeMo's Qwen2 computes silu"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}}, "rope_scaling is yarn"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 4.0}}, "computes default or linear"),
        ({"use_sliding_window": True}, "use_sliding_window is True"),
        ({"mlp_bias": True}, "mlp_bias is True; NeMo's Qwen2 computes no such biases"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
    ],
)
def test_a_model_that_nemo_would_compute_otherwise_is_refused(
    model: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    change_config(model, **changes)
    with pytest.raises(ModelError, match=message) as caught:
        import_checkpoint(model, tmp_path / "nemo", no_emit, free_disk_ratio=1)
    assert "backend transformers" in caught.value.hint


def test_the_rotary_base_reaches_an_older_transformers(model: Path, tmp_path: Path) -> None:
    change_config(model, rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0})
    make_view(model, tmp_path / "view")
    older = json.loads((tmp_path / "view" / "config.json").read_text(encoding="utf-8"))
    assert older["rope_theta"] == 1_000_000.0 and older["rope_scaling"] is None
    assert older["torch_dtype"] == "float32" and "dtype" not in older and "rope_parameters" not in older


def test_scaled_rotary_angles_keep_their_factors_in_older_words() -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    older = in_older_words({"rope_parameters": {**scaling, "rope_theta": 5e5}})
    assert older == {"rope_theta": 5e5, "rope_scaling": scaling}


def test_a_config_in_older_words_is_left_as_it_is() -> None:
    older = {"rope_theta": 1e6, "rope_scaling": None, "torch_dtype": "bfloat16"}
    assert in_older_words(older) == older


def test_a_view_links_to_the_weights_and_keeps_the_tokenizer_apart(model: Path, tmp_path: Path) -> None:
    config = make_view(model, tmp_path / "view")
    make_view(model, tmp_path / "view")  # again, over itself
    assert (tmp_path / "view" / "model.safetensors").resolve() == (model / "model.safetensors").resolve()
    names = {p.name for p in (tmp_path / "view" / TOKENIZER).iterdir()}
    assert names == {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert connector_for(model, config).model == "Qwen2Model"


def test_weights_of_several_types_are_held_in_fp32(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file({name: t.bfloat16() for name, t in tensors.items()}, model / "model.safetensors")
    assert weight_dtype(model) == "bfloat16"
    name = next(iter(tensors))
    save_file({n: t if n == name else t.bfloat16() for n, t in tensors.items()}, model / "model.safetensors")
    assert weight_dtype(model) == "float32"
