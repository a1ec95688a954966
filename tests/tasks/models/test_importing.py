"""Stage `base_model`: local folders, what is refused, and what makes the identity."""

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_contracts.errors import ModelError, SourceError, UnprovenWeightsError
from data_contracts.files import hash_file
from tasks.models.base_worker import bring_and_prove
from tasks.models.config import ModelConfig
from tasks.models.folders import check_model_files, model_files
from tasks.models.importing import import_base, outside_digests
from tasks.models.loading import load_model
from tasks.models.proofs import prove, refuse_random, verdict
from tasks.runtime import identity


def copy(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_local_folder_is_copied_and_its_random_weights_are_stated(micro_model, workspace, tmp_path):
    folder = copy(micro_model, tmp_path / "mine")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    (folder / "notes.txt").write_text("not part of the model")
    config = ModelConfig(source=str(folder), expect_pretrained=False, licence="MIT", cpu_threads=1)
    summary = import_base(config, workspace)
    names = [entry.name for entry in workspace.files()]
    assert names == sorted(p.name for p in micro_model.iterdir())
    assert all(entry == hash_file(folder / entry.name) for entry in workspace.files())
    assert summary.counts == {
        "parameters": 25888,
        "vocabulary": 320,
        "tokenizer_tokens": 320,
        "context_length": 128,
    }
    assert summary.proofs["weights"] == "random"
    assert summary.proofs["tied_embeddings"] is True
    assert abs(summary.proofs["japanese_loss"] - summary.proofs["random_loss"]) < 0.3
    assert summary.sources[0].name == "mine" and summary.sources[0].licence == "MIT"


def test_random_weights_are_refused_where_pretrained_ones_are_due(micro_model, tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    config = ModelConfig(source=str(micro_model), cpu_threads=1).model_dump(mode="json")
    with pytest.raises(UnprovenWeightsError, match="look random") as caught:
        bring_and_prove(config, str(target), str(micro_model), emit=lambda event, **fields: None)
    assert "expect_pretrained=false" in caught.value.hint


def test_loss_below_chance_in_one_language_counts_as_pretrained():
    refuse_random(Path("m"), {"japanese": 3.0, "english": 12.0}, 151_936)
    for losses in ({"japanese": 11.9, "english": 11.9}, {"japanese": float("nan"), "english": float("nan")}):
        with pytest.raises(UnprovenWeightsError):
            refuse_random(Path("m"), losses, 151_936)
    assert verdict({"japanese": 3.0, "english": 12.0}, 151_936) == "pretrained"
    assert verdict({"japanese": 11.9, "english": 12.1}, 151_936) == "random"
    assert verdict({"japanese": 20.0, "english": 19.0}, 151_936) == "unclear"


def test_a_path_is_no_identity_but_its_files_and_a_hub_name_are(micro_model, tmp_path):
    first = ModelConfig(source=str(micro_model))
    second = ModelConfig(source=str(copy(micro_model, tmp_path / "elsewhere")))
    assert identity(first) == identity(second)
    assert outside_digests(first) == outside_digests(second) != {}
    assert ModelConfig.model_validate(first.model_dump(mode="json")) == first
    (tmp_path / "elsewhere" / "config.json").write_text("{}")
    assert outside_digests(first) != outside_digests(second)
    hub = ModelConfig(source="hf://Qwen/Qwen2.5-0.5B@main")
    assert identity(hub) != identity(ModelConfig(source="hf://Qwen/Qwen2.5-0.5B"))
    assert outside_digests(hub) == outside_digests(ModelConfig()) == {}


@pytest.mark.parametrize("source", ["hf://Qwen", "hf://", "local", "hf://a/b@"])
def test_incomplete_source_is_refused(source):
    with pytest.raises(ValueError, match="source"):
        ModelConfig(source=source)


def test_folder_of_pickles_is_refused(micro_model, tmp_path):
    folder = copy(micro_model, tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SourceError, match=r"only pickled weights \(pytorch_model.bin\)"):
        outside_digests(ModelConfig(source=str(folder)))


def test_absent_folder_and_adapter_folder_are_named(tmp_path):
    with pytest.raises(SourceError, match="no such folder"):
        model_files(tmp_path / "absent")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(SourceError, match="found a peft adapter"):
        model_files(tmp_path)


@pytest.mark.parametrize("keep", [-1, 100, 7, 0])
def test_truncated_weights_give_a_clear_error(micro_model, tmp_path, keep):
    folder = copy(micro_model, tmp_path / "m")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors") as caught:
        check_model_files(folder)
    assert "again" in caught.value.hint


def test_lfs_pointer_and_foreign_file_are_told_apart(micro_model, tmp_path):
    folder = copy(micro_model, tmp_path / "m")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelError, match="a Git LFS pointer"):
        check_model_files(folder)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 4) + b"nope" + b"x" * 9)
    with pytest.raises(ModelError, match="not that of a safetensors file"):
        check_model_files(folder)


def test_missing_shard_is_named(micro_model, tmp_path):
    folder = copy(micro_model, tmp_path / "m")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="1 of 2 shards are missing"):
        check_model_files(folder)


def changed(folder: Path, change) -> Path:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_missing_left_over_and_misshapen_tensors_are_refused(micro_model, tmp_path):
    name = "model.layers.1.mlp.up_proj.weight"
    missing = changed(copy(micro_model, tmp_path / "missing"), lambda tensors: tensors.pop(name))
    with pytest.raises(UnprovenWeightsError, match=f"1 missing \\({name}\\)"):
        prove(missing, must_be_pretrained=False)
    extra = changed(copy(micro_model, tmp_path / "extra"), lambda t: t.update({"model.layers.9.x": torch.zeros(1)}))
    with pytest.raises(UnprovenWeightsError, match="1 left over"):
        prove(extra, must_be_pretrained=False)
    misshapen = changed(copy(micro_model, tmp_path / "shape"), lambda t: t.update({name: torch.zeros(3, 3)}))
    with pytest.raises(UnprovenWeightsError):
        prove(misshapen, must_be_pretrained=False)


def test_tokenizer_larger_than_the_embedding_is_refused(micro_model, tmp_path):
    folder = copy(micro_model, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 300}))
    key = "model.embed_tokens.weight"
    changed(folder, lambda tensors: tensors.update({key: tensors[key][:300].clone()}))
    with pytest.raises(ModelError, match="ids up to 319, its embedding has 300 rows"):
        prove(folder, must_be_pretrained=False)


def test_code_in_a_folder_is_not_run(micro_model, tmp_path):
    folder = copy(micro_model, tmp_path / "m")
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(folder)
