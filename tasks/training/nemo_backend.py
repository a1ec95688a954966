"""The nemo backend: NeMo 2.x recipes through NeMo-Run; runs inside the worker, in NeMo's own interpreter.

A job is four steps, each found done when the worker starts again: the model as a NeMo checkpoint, the loss that plain
transformers gives for the first batch, the training itself in processes of its own (`nemo_process`), and the result as
a Hugging Face folder or a peft adapter, compared with what NeMo computes.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch

from data_contracts.errors import ConfigError, ModelError, ReconciliationError
from data_contracts.token_files import TokenFile
from tasks.training.backends import TrainingJob, TrainingResult
from tasks.training.batches import IGNORED, Batch
from tasks.training.config import LoraConfig, OptimizationConfig, PretrainConfig
from tasks.training.executors import executor_of
from tasks.training.nemo_compat import prepare
from tasks.training.nemo_job import NemoJob, TrainingState, folder_of, read_state
from tasks.training.packing import steps_of_epochs
from tasks.training.weights import base_dtype
from tasks.worker import ORPHAN_GRACE_SECONDS, Emit

LOGITS_TOLERANCE = {"fp32": 1e-3, "bf16": 0.1}
"""Mean difference of a logit between NeMo and the result in fp32, in units of the logits' own spread. bf16 has 8 bits
of mantissa, which the layers add up: transformers in bf16 is 0.03 from itself in fp32; another model would be 1."""


def run(
    job: dict[str, Any], emit: Emit, executor: dict[str, Any] | None = None, grace_seconds: float = ORPHAN_GRACE_SECONDS
) -> dict[str, Any]:
    """Does a TrainingJob and returns a TrainingResult, both as JSON; continues from what an attempt before it left.

    executor: a block of `executors` as JSON, how the processes of the training are started. grace_seconds: for them to
    checkpoint and leave on SIGTERM.
    """
    shims = prepare()
    training = TrainingJob.model_validate(job)
    _check_device(training.config)
    folder_of(training).mkdir(parents=True, exist_ok=True)
    nemo_job = _nemo_job(training)
    _train(nemo_job, emit, executor or {"kind": "inline"}, grace_seconds)
    counts, facts = _finish_adapter(nemo_job) if training.task == "lora" else _finish_model(nemo_job)
    return _result(nemo_job, counts, {**facts, "shims": shims}).model_dump()


def _check_device(config: OptimizationConfig) -> None:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "`device`: found cuda, but torch sees no CUDA device", hint="set device=cpu, or run where a GPU is"
        )
    torch.set_num_threads(config.cpu_threads)


def _nemo_job(training: TrainingJob) -> NemoJob:
    """The job with all that must be known before the first step; what takes long is kept in the scratch."""
    from tasks.training.nemo_data import batches_of

    num_steps = _num_steps(training)
    reference = _reference(training, batches_of(training, num_steps).micro_batches(1))
    config = training.config
    return NemoJob(
        training=training,
        checkpoint=training.nemo_checkpoint or _imported(training),
        num_steps=num_steps,
        reference_loss=reference["loss"],
        vocabulary_size=int(reference["vocabulary_size"]),
        expect_pretrained=isinstance(config, PretrainConfig) and config.expect_pretrained,
    )


def _num_steps(training: TrainingJob) -> int:
    config = training.config
    if config.max_steps is not None:
        return config.max_steps
    assert config.epochs is not None
    return steps_of_epochs(config.epochs, _samples_per_epoch(training), config.global_batch_size)


def _samples_per_epoch(training: TrainingJob) -> int:
    from tasks.training.nemo_data import packed_batches, pair_batches

    data, _ = packed_batches(training) if training.task == "pretrain" else pair_batches(training)
    return data.samples_per_epoch


def _imported(training: TrainingJob) -> Path:
    """The model as a NeMo checkpoint in the scratch."""
    from tasks.models.nemo_import import import_checkpoint

    folder, aside = folder_of(training) / "base", folder_of(training) / "base-unfinished"
    if not folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        import_checkpoint(training.model, aside, _silent)
        aside.rename(folder)
    return folder


def _silent(event: str, **fields: Any) -> None:
    """The import's own steps are not those of the training."""


def _reference(training: TrainingJob, batches: list[Batch]) -> dict[str, float]:
    """Loss of plain transformers, fp32, on the batches of the first step, and the size of its vocabulary."""
    from tasks.training.nemo_data import model_view

    path = folder_of(training) / "reference.json"
    if not path.exists():
        model = _plain_model(model_view(training)).to(training.config.device)
        total = sum(_loss_sum(model, batch.to(training.config.device)) for batch in batches)
        figures = {
            "loss": total / sum(batch.num_targets for batch in batches),
            "vocabulary_size": model.get_input_embeddings().weight.shape[0],
        }
        aside = path.with_suffix(".aside")
        aside.write_text(json.dumps(figures), encoding="utf-8")
        aside.rename(path)
        del model
        torch.cuda.empty_cache()
    return json.loads(path.read_text(encoding="utf-8"))


def _plain_model(view: Path) -> Any:
    """The model of a folder whose config is in the words of this transformers, in fp32."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        view, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    return model.eval()


@torch.no_grad()
def _loss_sum(model: Any, batch: Batch) -> float:
    logits = model(input_ids=batch.input_ids, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), batch.targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return float(loss)


def _train(job: NemoJob, emit: Emit, executor: dict[str, Any], grace_seconds: float) -> None:
    """Runs the training's processes unless the last checkpoint is there."""
    from tasks.training.launching import launch
    from tasks.training.nemo_checkpoints import checkpoints, damage, discard

    job.checkpoints.mkdir(exist_ok=True)
    for path in checkpoints(job.checkpoints):
        fault = damage(path) or (None if _state(path) else "its state is missing")
        if fault:
            emit("warning", message=f"`{path.name}`: {fault}; falling back to the checkpoint before it")
            discard(path)
    if job.num_steps in (state.step for path in checkpoints(job.checkpoints) if (state := _state(path))):
        emit("start", step=job.num_steps, steps=job.num_steps)
        return
    launch(job.save(), job.events, executor_of(executor), emit, grace_seconds=grace_seconds)
    _leave_process_group()


def _leave_process_group() -> None:
    """Ends the process group of a training in this process: that of a GPU cannot serve the export, on the CPU."""
    if not torch.distributed.is_initialized():
        return
    from megatron.core import parallel_state

    parallel_state.destroy_model_parallel()
    torch.distributed.destroy_process_group()


def _state(checkpoint: Path) -> TrainingState | None:
    try:
        return read_state(checkpoint)
    except (OSError, ValueError):
        return None


def _last_checkpoint(job: NemoJob) -> Path:
    return job.checkpoints / f"step-{job.num_steps:08d}"


def _finish_model(job: NemoJob) -> tuple[dict[str, int], dict[str, Any]]:
    """Writes the trained model and proves it; counts and facts of task pretrain."""
    from tasks.models.nemo_export import export_checkpoint
    from tasks.models.nemo_folder import make_view
    from tasks.training.nemo_data import packed_batches

    training = job.training
    _, dataset = packed_batches(training)
    state = read_state(_last_checkpoint(job))
    accounted = dataset.tokens_consumed(job.num_steps * training.config.global_batch_size)
    if state.tokens != accounted:
        raise ReconciliationError(
            f"`tokens`: trained on {state.tokens}, the index accounts for {accounted}",
            hint="this is an error in tsuzuki; please report it with the job's config",
        )
    export_checkpoint(_last_checkpoint(job), training.model, training.output)
    make_view(training.output, job.folder / "output-view")
    model = _plain_model(job.folder / "output-view")
    files = {"train": TokenFile(training.train), "validation": TokenFile(training.validation)}
    facts = {
        "largest_token_id": {name: int(file.tokens.max()) for name, file in files.items()},
        "tokens_per_epoch": dataset.tokens_per_epoch,
        "tokens_left_over_per_epoch": dataset.tokens_left_over,
        "tokens_in_index": files["train"].num_tokens,
        "saved_dtype": str(base_dtype(training.model)).removeprefix("torch."),
        **_compared(job, model),
    }
    parameters = sum(p.numel() for p in model.parameters())
    counts = {"train_samples_per_epoch": dataset.samples_per_epoch, "parameters": parameters}
    return {**counts, "parameters_trained": parameters}, facts


def _finish_adapter(job: NemoJob) -> tuple[dict[str, int], dict[str, Any]]:
    """Writes the adapter in peft's format and proves it; counts and facts of task lora."""
    from peft import PeftModel

    from tasks.training.nemo_adapter import export_adapter
    from tasks.training.nemo_data import model_view, pair_batches

    training, config = job.training, job.training.config
    assert isinstance(config, LoraConfig)
    _, (train, validation) = pair_batches(training)
    trained = export_adapter(_last_checkpoint(job), training.model, config, training.output)
    base = _plain_model(model_view(training))
    model: Any = PeftModel.from_pretrained(base, training.output, autocast_adapter_dtype=False)
    counts = {
        "pairs_train": train.pairs,
        "pairs_validation": validation.pairs,
        "pairs_truncated": train.truncated + validation.truncated,
        "pairs_dropped": train.dropped + validation.dropped,
        "parameters": sum(p.numel() for p in model.parameters()),
        "parameters_trained": trained,
    }
    targets = sorted(model.peft_config["default"].target_modules)
    return counts, {"target_modules": targets, **_compared(job, model.eval())}


@torch.no_grad()
def _compared(job: NemoJob, model: Any) -> dict[str, Any]:
    """How far the result's logits, computed by plain transformers in fp32, are from NeMo's.

    Raises ModelError above the tolerance.
    """
    from safetensors.torch import load_file

    saved = load_file(job.last_logits)
    found = model(input_ids=saved["input_ids"], use_cache=False).logits.float()
    expected = saved["logits"][..., : found.shape[-1]]
    difference = (found - expected).abs()
    relative, coarsest = float(difference.mean() / expected.std()), _coarsest(job)
    if not relative <= LOGITS_TOLERANCE[coarsest]:
        raise ModelError(
            f"`{job.training.output}`: its logits are {relative:.4f} of their spread from NeMo's in the mean, "
            f"expected at most {LOGITS_TOLERANCE[coarsest]} ({coarsest})",
            hint="the export does not hold what was trained; please report it with the architecture",
        )
    agreeing = (found.argmax(-1) == expected.argmax(-1)).float().mean()
    return {
        "logits_compared": difference.numel(),
        "logits_relative_difference": relative,
        "logits_largest_difference": float(difference.max()),
        "logits_same_best_token": float(agreeing),
    }


def _coarsest(job: NemoJob) -> str:
    """The coarser of what NeMo computed in and what the weights are saved in."""
    saved = base_dtype(job.training.model)
    return "fp32" if job.training.config.precision == "fp32" and saved == torch.float32 else "bf16"


def _result(job: NemoJob, counts: dict[str, int], facts: dict[str, Any]) -> TrainingResult:
    """Writes training.json, which holds no time and no path, and returns what goes into the manifest."""
    from tasks.training.nemo_recipes import recipe_name

    training, config, state = job.training, job.training.config, read_state(_last_checkpoint(job))
    assert config.nemo is not None
    num_samples = job.num_steps * config.global_batch_size
    counts = {"steps": job.num_steps, "samples": num_samples, "tokens_consumed": state.tokens, **counts}
    proofs = {
        "step0_loss": state.step0_loss,
        "step0_reference_loss": job.reference_loss,
        "random_loss": math.log(job.vocabulary_size),
        "expect_pretrained": job.expect_pretrained,
        "vocabulary_size": job.vocabulary_size,
        **facts,
        "epochs": num_samples / _samples_per_epoch(training),
        "first_loss": state.losses[0],
        "last_loss": state.losses[-1],
        "validation_losses": [list(pair) for pair in state.validations],
        "backend": config.backend,
        "recipe": recipe_name(config.nemo, training.model),
        "device": config.device,
        "precision": config.precision,
    }
    content = json.dumps({"task": training.task, **counts, **proofs}, indent=1, sort_keys=True)
    (training.output / "training.json").write_text(content + "\n", encoding="utf-8")
    return TrainingResult(counts=counts, proofs=proofs)
