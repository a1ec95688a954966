"""Continual pretraining: what it leaves, proves and refuses; the worker itself is tried in test_resume.py."""

from __future__ import annotations

import json
import math

import pytest

from data_contracts.errors import ConfigError, DataError, TrainingDiverged, UnprovenWeightsError
from tasks.training.pretraining import pretrain

pytestmark = pytest.mark.usefixtures("in_process")


def test_pretraining_leaves_a_model_like_its_base_with_lower_loss(
    pretrain_config, workspace, base, tokens, content_hashes
):
    summary = pretrain(pretrain_config(max_steps=30), workspace, base, tokens)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(workspace.path, local_files_only=True)
    AutoTokenizer.from_pretrained(workspace.path, local_files_only=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    losses = [loss for _, loss in summary.proofs["validation_losses"]]
    assert losses[-1] < losses[0] - 1.5
    assert [step for step, _ in summary.proofs["validation_losses"]] == [0, 5, 10, 15, 20, 25, 30]
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (workspace.path / name).read_bytes() == (base.path / name).read_bytes()
    names = {*content_hashes(base.path), "training.json"} - {"manifest.json"}
    assert set(content_hashes(workspace.path)) == names


def test_tokens_consumed_reconcile_with_steps_index_and_metrics(pretrain_config, workspace, base, tokens):
    summary = pretrain(pretrain_config(max_steps=None, epochs=0.5), workspace, base, tokens)
    counts, proofs = summary.counts, summary.proofs
    assert counts["tokens_consumed"] == counts["steps"] * 8 * 32 == counts["samples"] * 32
    assert counts["steps"] == math.ceil(counts["train_samples_per_epoch"] * 0.5 / 8)
    assert proofs["tokens_in_index"] == proofs["tokens_per_epoch"] + proofs["tokens_left_over_per_epoch"] + 1
    rows = [json.loads(line) for line in (workspace.path / "logs/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, counts["steps"] + 1))
    assert [row for row in rows if "loss" in row][-1]["tokens_consumed"] == counts["tokens_consumed"]


def test_loss_at_step_0_equals_that_of_plain_transformers(pretrain_config, workspace, base, tokens):
    proofs = pretrain(pretrain_config(max_steps=1), workspace, base, tokens).proofs
    assert proofs["step0_loss"] == pytest.approx(proofs["step0_reference_loss"], abs=1e-4)
    assert proofs["random_loss"] == pytest.approx(math.log(512))


def test_bf16_trains_and_saves_in_the_dtype_of_the_base(pretrain_config, workspace, make_model, tokens):
    base = make_model("bf16", dtype="bfloat16")
    summary = pretrain(pretrain_config(max_steps=8, precision="bf16"), workspace, base, tokens)
    from safetensors.torch import load_file

    assert {str(tensor.dtype) for tensor in load_file(workspace.path / "model.safetensors").values()} == {
        "torch.bfloat16"
    }
    assert summary.proofs["saved_dtype"] == "bfloat16"
    assert summary.proofs["last_loss"] < summary.proofs["first_loss"]


def test_training_json_holds_no_time_and_no_path(pretrain_config, workspace, base, tokens):
    pretrain(pretrain_config(max_steps=2), workspace, base, tokens)
    text = (workspace.path / "training.json").read_text()
    assert "second" not in text and str(workspace.path) not in text and str(base.path) not in text


def test_progress_shows_steps_with_loss_and_speed(pretrain_config, workspace, base, tokens):
    shown = []
    workspace.progress = lambda done, total=None, unit="", **figures: shown.append((done, total, unit, figures))
    pretrain(pretrain_config(max_steps=4), workspace, base, tokens)
    done, total, unit, figures = shown[-1]
    assert (done, total, unit) == (4, 4, "steps")
    assert {"loss", "validation_loss", "learning_rate", "tokens_per_second"} <= set(figures)


def test_random_weights_are_refused_where_pretrained_ones_are_expected(pretrain_config, workspace, base, tokens):
    with pytest.raises(UnprovenWeightsError, match="loss at step 0"):
        pretrain(pretrain_config(expect_pretrained=True), workspace, base, tokens)


def test_weights_missing_from_the_files_are_refused(pretrain_config, workspace, make_model, tokens):
    from safetensors.torch import load_file, save_file

    base = make_model("holes")
    path = base.path / "model.safetensors"
    tensors = load_file(path)
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UnprovenWeightsError, match="up_proj"):
        pretrain(pretrain_config(), workspace, base, tokens)


def test_tokens_of_another_tokenizer_are_refused(pretrain_config, workspace, base, make_tokens):
    with pytest.raises(DataError, match="made with tokenizer"):
        pretrain(pretrain_config(), workspace, base, make_tokens("f" * 64))


def test_a_vocabulary_larger_than_the_models_is_refused(pretrain_config, workspace, base, make_tokens):
    with pytest.raises(DataError, match="vocabulary of 9999"):
        pretrain(pretrain_config(), workspace, base, make_tokens(vocabulary_size=9999))


def test_a_token_id_beyond_the_model_is_refused(pretrain_config, workspace, base, make_tokens):
    with pytest.raises(DataError, match="token id 800"):
        pretrain(
            pretrain_config(), workspace, base, make_tokens(change=lambda token: token + 400 if token == 400 else token)
        )


def test_a_nan_in_the_weights_stops_the_training(pretrain_config, workspace, base, tokens):
    with pytest.raises(TrainingDiverged, match="expected finite numbers"):
        pretrain(pretrain_config(learning_rate=1e18, warmup_steps=0, max_steps=20), workspace, base, tokens)


def test_cuda_asked_for_but_absent_is_an_error(pretrain_config, workspace, base, tokens):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(ConfigError, match="no CUDA device"):
        pretrain(pretrain_config(device="cuda"), workspace, base, tokens)


def test_an_unknown_backend_is_refused_with_the_choices(pretrain_config, workspace, base, tokens):
    with pytest.raises(ConfigError, match="expected one of nemo, transformers"):
        pretrain(pretrain_config(backend="megatron"), workspace, base, tokens)


def test_a_sequence_longer_than_the_model_holds_is_refused(pretrain_config, workspace, base, tokens):
    with pytest.raises(ConfigError, match="at most 128"):
        pretrain(pretrain_config(sequence_length=256), workspace, base, tokens)
