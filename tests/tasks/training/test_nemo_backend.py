"""Backend nemo beside backend transformers: equal losses, kills, raised step counts, gates; NeMo on the CPU."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from data_contracts.errors import ConfigError, MissingPackage, ModelError, UnprovenWeightsError, WorkerLost
from tasks.runtime import Runtime
from tasks.training.nemo_recipes import RECIPES, lora_targets, recipe_name
from tasks.training.pretraining import pretrain
from tasks.workspace import Workspace

ON_CPU = {"backend": "nemo", "nemo": {"transformer_engine": False}}


@pytest.fixture
def work(tmp_path, nemo_python):
    """`work(name)`: a workspace whose runtime knows NeMo."""
    runtime = Runtime(store=tmp_path, nemo_python=nemo_python())
    return lambda name: Workspace(tmp_path / name, runtime)


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "logs/metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in rows(folder) if "loss" in row]


def test_killed_and_resumed_equals_never_killed_and_both_backends_agree_at_every_step(
    work, nemo_python, tmp_path, base, tokens, pretrain_config, start_body, content_hashes
):
    config = pretrain_config(**ON_CPU)
    pretrain(config, work("whole"), base, tokens)

    killed = tmp_path / "killed"
    runtime = {"nemo_python": str(nemo_python())}
    body = start_body("tasks.training.pretraining:pretrain", config, killed, runtime=runtime, base=base, tokens=tokens)
    body.wait_for_step(7, timeout_seconds=240)
    body.kill(worker=True)
    assert not (killed / "training.json").exists()
    pretrain(config, work("killed"), base, tokens)
    assert content_hashes(killed) == content_hashes(tmp_path / "whole")
    assert losses(killed) == losses(tmp_path / "whole")

    pretrain(pretrain_config(), work("transformers"), base, tokens)
    ours, theirs = rows(tmp_path / "whole"), rows(tmp_path / "transformers")
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for nemo, plain in zip(ours, theirs, strict=True):
        for name in nemo.keys() - {"tokens_per_second"}:
            # Adam's first steps divide rounding by rounding: the norm of a gradient shows it most.
            tolerance = 0.05 if name == "gradient_norm" else 2e-3
            assert nemo[name] == pytest.approx(plain[name], rel=tolerance), (nemo["step"], name)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "transformers")]
    assert weights[0].keys() == weights[1].keys()  # tied embeddings stay tied
    assert max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]) < 2e-2


@pytest.mark.long
def test_a_raised_number_of_steps_goes_on_with_the_longer_schedule_past_a_damaged_checkpoint(
    work, tmp_path, base, tokens, pretrain_config, caplog
):
    pretrain(pretrain_config(**ON_CPU, max_steps=6, keep_checkpoints=2), work("work"), base, tokens)
    folder = tmp_path / "work/.scratch/nemo/checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000003", "step-00000006"]
    data = max((folder / "step-00000006/weights").glob("*.distcp"), key=lambda path: path.stat().st_size)
    os.truncate(data, data.stat().st_size // 2)
    pretrain(pretrain_config(**ON_CPU, max_steps=12), work("work"), base, tokens)
    assert "falling back to the checkpoint before it" in caplog.text
    pretrain(pretrain_config(max_steps=12), work("transformers"), base, tokens)
    rates = {row["step"]: row["learning_rate"] for row in rows(tmp_path / "work") if "loss" in row}
    expected = {row["step"]: row["learning_rate"] for row in rows(tmp_path / "transformers") if "loss" in row}
    assert sorted(rates) == list(range(1, 13))
    assert {step: rates[step] for step in range(4, 13)} == {step: expected[step] for step in range(4, 13)}


@pytest.mark.long
def test_a_worker_told_to_stop_leaves_a_checkpoint_and_a_retryable_error(
    work, nemo_python, tmp_path, base, tokens, pretrain_config, start_body
):
    config, folder = pretrain_config(**ON_CPU, max_steps=400, checkpoint_every_steps=1000), tmp_path / "work"
    runtime = {"nemo_python": str(nemo_python())}
    body = start_body("tasks.training.pretraining:pretrain", config, folder, runtime=runtime, base=base, tokens=tokens)
    body.wait_for_step(3, timeout_seconds=240)
    (worker,) = body.worker_pids()
    os.kill(worker, signal.SIGTERM)
    assert body.process.wait(timeout=60) != 0
    assert WorkerLost.__name__ in (tmp_path / "processes/stderr.txt").read_text()
    (checkpoint,) = (folder / ".scratch/nemo/checkpoints").glob("step-*")
    assert json.loads((checkpoint / "state.json").read_text())["step"] >= 3


def test_random_weights_are_refused_where_pretrained_ones_are_expected(work, base, tokens, pretrain_config):
    with pytest.raises(UnprovenWeightsError, match="a pretrained model would be below"):
        pretrain(pretrain_config(**ON_CPU, expect_pretrained=True), work("work"), base, tokens)


def test_megatrons_own_order_trains_on_every_token_it_accounts_for(work, tmp_path, base, tokens, pretrain_config):
    config = pretrain_config(backend="nemo", nemo={"transformer_engine": False, "data_order": "megatron"}, max_steps=6)
    counts = pretrain(config, work("work"), base, tokens).counts
    assert counts["tokens_consumed"] == 6 * 8 * 32  # also those that end documents, whose token pads as well
    assert list((tmp_path / "work/.scratch/nemo/index_mapping").glob("*.npy"))


def test_a_machine_without_nemo_is_told_how_to_get_it(workspace, base, tokens, pretrain_config):
    with pytest.raises(MissingPackage, match="no interpreter that has NeMo") as caught:
        pretrain(pretrain_config(**ON_CPU), workspace, base, tokens)
    assert "make nemo-env" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nemo": {"tensor_parallel": 2}}, "no multiple of tensor x pipeline x context"),
        ({"nemo": {"sequence_parallel": True}}, "needs tensor_parallel above 1"),
        ({"nemo": {"transformer_engine": False, "fp8": True}}, "fp8 need transformer_engine"),
        ({"nemo": {"fp8": True}}, "fp8 needs precision bf16"),
        ({"nemo": {"num_gpus": 4}}, "x 4 data-parallel GPUs"),
        ({"device": "cpu"}, "needs device cuda"),
        ({"compile": True}, "of backend transformers"),
        ({"backend": "transformers", "nemo": {}}, "`nemo` is given"),
    ],
)
def test_a_config_that_does_not_fit_together_is_refused(changes, message, pretrain_config):
    with pytest.raises(ValueError, match=message):
        pretrain_config(**{"backend": "nemo", **changes})


def test_lora_takes_whole_matrices_of_nemo_only():
    assert lora_targets(None) == ["linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"]
    assert lora_targets(("v_proj", "q_proj", "k_proj", "down_proj")) == ["linear_qkv", "linear_fc2"]
    with pytest.raises(ConfigError, match="q_proj cannot be adapted alone"):
        lora_targets(("q_proj", "o_proj"))


def test_a_recipe_is_found_by_the_shape_of_the_model(tmp_path, pretrain_config):
    config = pretrain_config(**ON_CPU).nemo
    for model_type, sizes in RECIPES.items():
        for (hidden_size, num_layers), name in sizes.items():
            shape = {"model_type": model_type, "hidden_size": hidden_size, "num_hidden_layers": num_layers}
            (tmp_path / "config.json").write_text(json.dumps(shape))
            assert recipe_name(config, tmp_path) == name
    (tmp_path / "config.json").write_text(json.dumps({**shape, "model_type": "falcon"}))
    with pytest.raises(ModelError, match="no recipe for falcon"):
        recipe_name(config, tmp_path)
