"""Stage `export`: the merged model is the adapted one, and a merge that is not is caught."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from data_contracts.artifacts import Adapter, HfModel
from data_contracts.errors import ModelError, UnprovenWeightsError
from data_contracts.files import hash_file
from tasks.models.config import ExportConfig
from tasks.models.loading import is_tied, load_model, load_tokenizer
from tasks.models.merge_worker import compare_configs, largest_difference, merge, prompt_logits, verify
from tasks.models.merging import merge_adapter

PROMPTS = ("富士山は", "The highest", "### 指示:\n")


def nothing(event, **fields):
    """An emit that tells nobody."""


def make_adapter(folder: Path, model_folder: Path, **options) -> Path:
    torch.manual_seed(3)
    options = {"target_modules": ["q_proj", "v_proj", "down_proj"], **options}
    config = LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **options)
    model = get_peft_model(load_model(model_folder, "float32"), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def continued(micro_model, tmp_path_factory) -> Path:
    """The micro model with other weights, in the base's words, and files of its training."""
    folder = tmp_path_factory.mktemp("continued")
    for path in micro_model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = {name: tensor * 1.5 for name, tensor in load_file(micro_model / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "training.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def adapter(continued, tmp_path_factory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("adapter"), continued)


def arguments(base: Path, continued: Path, adapter: Path, target: Path, **config) -> tuple[dict, dict]:
    target.mkdir(exist_ok=True)
    shared = {
        "config": ExportConfig(prompts=PROMPTS, cpu_threads=1, **config).model_dump(mode="json"),
        "base": str(base),
        "continued": str(continued),
        "target": str(target),
        "reference": str(target.with_suffix(".reference")),
    }
    return {**shared, "adapter": str(adapter)}, shared


def test_merged_model_equals_base_plus_adapter_and_loads_in_a_fresh_process(
    micro_model, continued, adapter, workspace, tmp_path
):
    inputs = [HfModel(path=micro_model, digest="b"), HfModel(path=continued, digest="c")]
    summary = merge_adapter(ExportConfig(cpu_threads=1), workspace, *inputs, Adapter(path=adapter, digest="a"))
    folder = workspace.path
    assert sorted(entry.name for entry in workspace.files()) == sorted(p.name for p in micro_model.iterdir())
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert hash_file(folder / name) == hash_file(micro_model / name)
    tokenizer, merged = load_tokenizer(folder), load_model(folder)
    adapted = PeftModel.from_pretrained(load_model(continued), adapter).eval()
    expected = prompt_logits(adapted, tokenizer, PROMPTS)
    assert largest_difference(expected, prompt_logits(merged, tokenizer, PROMPTS)) < 1e-5
    assert largest_difference(expected, prompt_logits(load_model(continued), tokenizer, PROMPTS)) > 0.01
    assert is_tied(merged) and summary.proofs["tied_embeddings"] is True
    assert summary.proofs["merge_difference"] <= 1e-5 and summary.proofs["reload_difference"] <= 1e-5
    assert summary.proofs["cast_difference"] == 0 and summary.proofs["dtype"] == "float32"
    assert summary.counts == {"parameters": 25888}
    load = f"AutoModelForCausalLM.from_pretrained({str(folder)!r})"
    script = f"from transformers import AutoModelForCausalLM; print({load}.num_parameters())"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout.strip() == "25888"


def test_two_merges_have_equal_bytes(micro_model, continued, adapter, tmp_path):
    digests = []
    for name in ("first", "second"):
        merge(**arguments(micro_model, continued, adapter, tmp_path / name)[0], emit=nothing)
        digests.append({p.name: hash_file(p).sha256 for p in (tmp_path / name).iterdir()})
    assert digests[0] == digests[1]


def test_lower_dtype_is_saved_and_what_the_cast_costs_is_stated(micro_model, continued, adapter, tmp_path):
    first, second = arguments(micro_model, continued, adapter, tmp_path / "half", dtype="bfloat16")
    merged, verified = merge(**first, emit=nothing), verify(**second, emit=nothing)
    assert merged["dtype"] == "bfloat16" and merged["cast_difference"] > 1e-5 >= merged["merge_difference"]
    assert verified["proofs"]["reload_difference"] == 0
    assert load_model(tmp_path / "half").dtype == torch.bfloat16
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"


def tampered(target: Path, change) -> None:
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})


def test_saved_weights_that_differ_from_the_merged_ones_are_caught(micro_model, continued, adapter, tmp_path):
    first, second = arguments(micro_model, continued, adapter, tmp_path / "out")
    merge(**first, emit=nothing)
    tampered(tmp_path / "out", lambda tensors: tensors["model.layers.0.mlp.up_proj.weight"][0].mul_(1.01))
    with pytest.raises(ModelError, match="gives other logits than the merged one"):
        verify(**second, emit=nothing)


def test_untied_export_of_a_tied_model_is_caught(micro_model, continued, adapter, tmp_path):
    first, second = arguments(micro_model, continued, adapter, tmp_path / "out")
    merge(**first, emit=nothing)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(ModelError, match="tie_word_embeddings is False, the base model has True"):
        verify(**second, emit=nothing)


def test_missing_weight_and_shortened_context_are_caught(micro_model, continued, adapter, tmp_path):
    first, second = arguments(micro_model, continued, adapter, tmp_path / "out")
    merge(**first, emit=nothing)
    tampered(tmp_path / "out", lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(UnprovenWeightsError, match=r"model\.norm\.weight"):
        verify(**second, emit=nothing)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    (tmp_path / "out" / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    with pytest.raises(ModelError, match="max_position_embeddings is 64, the base model has 128"):
        verify(**second, emit=nothing)


def test_tolerance_that_is_not_met_stops_the_merge(micro_model, continued, adapter, tmp_path):
    first, _ = arguments(micro_model, continued, adapter, tmp_path / "out", logits_tolerance=1e-12)
    with pytest.raises(ModelError, match="merging in fp32 changed the logits"):
        merge(**first, emit=nothing)


def test_adapter_that_would_untie_the_embeddings_is_refused(micro_model, continued, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"target_modules": ["q_proj", "lm_head"]}))
    with pytest.raises(ModelError, match="changes lm_head"):
        merge(**arguments(micro_model, continued, tmp_path, tmp_path / "out")[0], emit=nothing)


def test_model_of_another_shape_than_the_base_is_refused(micro_model, tmp_path):
    config = json.loads((micro_model / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "transformers_version": "4.57.0", "dtype": "float16"}))
    compare_configs(micro_model, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 318}))
    with pytest.raises(ModelError, match="vocab_size is 318, the base model has 320"):
        compare_configs(micro_model, tmp_path)


def test_difference_is_absolute_for_small_and_relative_for_large_logits_and_infinite_for_nan():
    assert largest_difference([torch.tensor([0.5])], [torch.tensor([0.25])]) == 0.25
    assert largest_difference([torch.tensor([100.0])], [torch.tensor([99.0])]) == pytest.approx(0.01)
    assert largest_difference([torch.zeros(2)], [torch.tensor([0.0, float("nan")])]) == float("inf")
    assert largest_difference([torch.zeros(2)], [torch.zeros(3)]) == float("inf")
