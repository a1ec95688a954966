"""What every training backend owes: run over each name in the table, through the job contract alone."""

from __future__ import annotations

import json

import pytest

from tasks.job import run_worker
from tasks.runtime import Runtime
from tasks.training.backends import BACKENDS, TrainingJob, TrainingResult
from tasks.training.running import interpreter_of
from tasks.workspace import Workspace

pytestmark = pytest.mark.parametrize("backend", sorted(BACKENDS))
OF_BACKEND = {"nemo": {"nemo": {"transformer_engine": False}}, "transformers": {}}


@pytest.fixture
def do(tmp_path, base, tokens, instructions, pretrain_config, lora_config, nemo_python):
    """`do(backend, task, **config)` -> (result, events, output folder)."""

    def run(backend, task, **changes):
        config = {"pretrain": pretrain_config, "lora": lora_config}[task](
            backend=backend, **OF_BACKEND[backend], **changes
        )
        runtime = Runtime(store=tmp_path, nemo_python=nemo_python() if backend == "nemo" else None)
        workspace = Workspace(tmp_path / task, runtime)
        inputs = {"pretrain": (tokens.prefix("train"), tokens.prefix("validation"))}
        pairs = (instructions.path / "train.jsonl", instructions.path / "validation.jsonl")
        train, validation = inputs.get(task, pairs)
        eod = tokens.manifest.summary.proofs["eod_token_id"] if task == "pretrain" else None
        job = TrainingJob(
            task=task, model=base.path, train=train, validation=validation, eod_token_id=eod,
            output=workspace.path, scratch=workspace.scratch, **{task: config},
        )  # fmt: skip
        events = []
        told = run_worker(
            BACKENDS[backend], {"job": job.model_dump(mode="json")}, workspace, events.append,
            interpreter_of(backend, runtime),
        )  # fmt: skip
        return TrainingResult.model_validate(told), events, workspace.path

    return run


@pytest.mark.parametrize("task", ["pretrain", "lora"])
def test_events_tell_start_progress_validation_and_checkpoints(backend, task, do):
    _, events, _ = do(backend, task, max_steps=6)
    assert events[0] == {"event": "start", "step": 0, "steps": 6}
    kinds = [event["event"] for event in events]
    assert {"progress", "validation", "checkpoint"} <= set(kinds)
    (last,) = [e for e in events if e["event"] == "progress" and e["step"] == 6]
    assert {"loss", "learning_rate", "gradient_norm", "tokens_consumed", "epoch", "tokens_per_second"} <= set(last)


@pytest.mark.parametrize("task", ["pretrain", "lora"])
def test_loss_falls_and_the_facts_are_stated(backend, task, do):
    result, _, output = do(backend, task, max_steps=15)
    assert result.counts["steps"] == 15 and result.counts["samples"] == 15 * 8
    assert result.proofs["last_loss"] < result.proofs["first_loss"]
    assert abs(result.proofs["step0_loss"] - result.proofs["step0_reference_loss"]) <= 1e-4
    assert json.loads((output / "training.json").read_text()) == {"task": task, **result.counts, **result.proofs}


@pytest.mark.parametrize("task", ["pretrain", "lora"])
def test_a_finished_job_run_again_gives_the_same_bytes_without_training(backend, task, do):
    _, _, output = do(backend, task, max_steps=6)
    names = ["training.json", "model.safetensors" if task == "pretrain" else "adapter_model.safetensors"]
    before = [(output / name).read_bytes() for name in names]
    _, events, _ = do(backend, task, max_steps=6)
    assert events[0] == {"event": "start", "step": 6, "steps": 6}
    assert [(output / name).read_bytes() for name in names] == before


def test_gradient_accumulation_changes_no_more_than_rounding(backend, do, tmp_path):
    whole, _, output = do(backend, "pretrain", max_steps=4, micro_batch_size=8)
    (output / ".scratch").rename(tmp_path / "aside")
    parts, _, _ = do(backend, "pretrain", max_steps=4, micro_batch_size=2)
    assert parts.proofs["last_loss"] == pytest.approx(whole.proofs["last_loss"], abs=1e-4)
    assert parts.counts["tokens_consumed"] == whole.counts["tokens_consumed"]
