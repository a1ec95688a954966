"""The transformers backend: one process, one device, plain PyTorch; runs inside the worker."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, PreTrainedModel

from data_contracts.errors import ConfigError, DataError, ReconciliationError
from data_contracts.token_files import TokenFile
from tasks.training.backends import TrainingJob, TrainingResult
from tasks.training.batches import PackedBatches, PairBatches, read_pairs
from tasks.training.config import LoraConfig, OptimizationConfig, PretrainConfig
from tasks.training.packing import PackedDataset, steps_of_epochs
from tasks.training.trainer import Emit, Trainer
from tasks.training.weights import (
    add_adapter,
    base_dtype,
    load_model,
    prove_loss,
    prove_pretrained,
    reference_loss,
    save_adapter,
    save_model,
    without_last_target,
)


def run(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Does a TrainingJob and returns a TrainingResult, both as JSON; continues from the last whole checkpoint."""
    parsed = TrainingJob.model_validate(job)
    _set_up_torch(parsed.config)
    task = _pretrain if parsed.task == "pretrain" else _tune
    return task(parsed, _patient(emit)).model_dump()


def _pretrain(job: TrainingJob, emit: Emit) -> TrainingResult:
    config = job.config
    assert isinstance(config, PretrainConfig) and job.eod_token_id is not None
    files = {"train": TokenFile(job.train), "validation": TokenFile(job.validation)}
    model = load_model(job.model, config)
    vocabulary_size = _vocabulary_size(model)
    largest = {name: _prove_vocabulary(file, vocabulary_size) for name, file in files.items()}
    train = PackedDataset(files["train"], config.sequence_length, config.seed, job.eod_token_id)
    validation = None
    if config.validation_batches:
        validation = PackedDataset(files["validation"], config.sequence_length, config.seed, job.eod_token_id)
    data = PackedBatches(
        train, validation, config.micro_batch_size, config.global_batch_size, config.validation_batches
    )
    num_steps = _num_steps(config, train.samples_per_epoch)
    trainer = Trainer(model, data, config, num_steps, job.scratch, job.output / "logs", emit)
    _prove_start(job, trainer, vocabulary_size, expect_pretrained=config.expect_pretrained)
    trainer.run()
    num_samples = num_steps * config.global_batch_size
    _reconcile(trainer.state["tokens"], train.tokens_consumed(num_samples))
    save_model(model, job.model, job.output)
    facts = {
        "largest_token_id": largest,
        "tokens_per_epoch": train.tokens_per_epoch,
        "tokens_left_over_per_epoch": train.tokens_left_over,
        "tokens_in_index": files["train"].num_tokens,
        "saved_dtype": str(base_dtype(job.model)).removeprefix("torch."),
    }
    return _finish(job, trainer, facts, {"train_samples_per_epoch": train.samples_per_epoch})


def _tune(job: TrainingJob, emit: Emit) -> TrainingResult:
    config = job.config
    assert isinstance(config, LoraConfig)
    tokenizer = AutoTokenizer.from_pretrained(job.model, local_files_only=True, trust_remote_code=False)
    train, train_counts = read_pairs(job.train, tokenizer, config.sequence_length)
    validation, validation_counts = read_pairs(job.validation, tokenizer, config.sequence_length)
    base = load_model(job.model, config)
    vocabulary_size = _vocabulary_size(base)
    model = add_adapter(base, config)
    data = PairBatches(
        train, validation, config.micro_batch_size, config.global_batch_size, config.validation_batches, config.seed
    )
    num_steps = _num_steps(config, data.samples_per_epoch)
    trainer = Trainer(model, data, config, num_steps, job.scratch, job.output / "logs", emit)
    _prove_start(job, trainer, vocabulary_size, expect_pretrained=False)
    trainer.run()
    save_adapter(model, config.base_name, job.output)
    counts = {
        "pairs_train": train_counts.pairs,
        "pairs_validation": validation_counts.pairs,
        "pairs_truncated": train_counts.truncated + validation_counts.truncated,
        "pairs_dropped": train_counts.dropped + validation_counts.dropped,
    }
    return _finish(job, trainer, {"target_modules": sorted(model.peft_config["default"].target_modules)}, counts)  # pyright: ignore


def _set_up_torch(config: OptimizationConfig) -> None:
    if config.device == "cuda":
        # cuBLAS is deterministic only with a fixed workspace, and reads this when CUDA starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if not torch.cuda.is_available():
            raise ConfigError(
                "`device`: found cuda, but torch sees no CUDA device", hint="set device=cpu, or run where a GPU is"
            )
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(config.cpu_threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore - costs time, changes no result
    torch.set_float32_matmul_precision("highest" if config.precision == "fp32" else "high")
    torch.manual_seed(config.seed)


def _patient(emit: Emit) -> Emit:
    """An emit that survives a parent that is gone: the worker's SIGTERM follows, and then a checkpoint is written."""

    def patient(event: str, **fields: Any) -> None:
        try:
            emit(event, **fields)
        except BrokenPipeError:
            return

    return patient


def _vocabulary_size(model: PreTrainedModel) -> int:
    return int(model.get_input_embeddings().weight.shape[0])  # pyright: ignore


def _num_steps(config: OptimizationConfig, samples_per_epoch: int) -> int:
    if config.max_steps is not None:
        return config.max_steps
    assert config.epochs is not None
    return steps_of_epochs(config.epochs, samples_per_epoch, config.global_batch_size)


def _prove_vocabulary(file: TokenFile, vocabulary_size: int) -> int:
    """The largest token id of a file. Raises DataError if the model has no such token."""
    largest = int(file.tokens.max()) if file.num_tokens else -1
    if largest >= vocabulary_size:
        raise DataError(
            f"`{file.data_path}`: holds token id {largest}, the model has {vocabulary_size} tokens",
            hint="binarize with the tokenizer of this base model",
        )
    return largest


def _prove_start(job: TrainingJob, trainer: Trainer, vocabulary_size: int, *, expect_pretrained: bool) -> None:
    """Proves a fresh start's loss against plain transformers; a resumed run has done so."""
    if trainer.resumed:
        return
    batch = without_last_target(trainer.data.micro_batches(1)[0])
    ours, reference = trainer.mean_loss([batch]), reference_loss(job.model, batch, job.config.device)
    prove_loss(job.model, ours, reference, job.config.precision)
    if expect_pretrained:
        prove_pretrained(job.model, ours, vocabulary_size)
    trainer.state["facts"] = {
        "step0_loss": ours,
        "step0_reference_loss": reference,
        "random_loss": math.log(vocabulary_size),
        "expect_pretrained": expect_pretrained,
        "vocabulary_size": vocabulary_size,
    }


def _reconcile(consumed: int, accounted: int) -> None:
    if consumed != accounted:
        raise ReconciliationError(
            f"`tokens`: trained on {consumed}, the index accounts for {accounted}",
            hint="this is an error in tsuzuki; please report it with the job's config",
        )


def _finish(job: TrainingJob, trainer: Trainer, facts: dict[str, Any], counts: dict[str, int]) -> TrainingResult:
    """Writes training.json, which holds no time and no path, and returns what goes into the manifest."""
    config, state = trainer.config, trainer.state
    num_samples = trainer.num_steps * config.global_batch_size
    counts = {
        "steps": trainer.num_steps,
        "samples": num_samples,
        "tokens_consumed": state["tokens"],
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "parameters_trained": sum(p.numel() for p in trainer.parameters.values()),
        **counts,
    }
    proofs = {
        **state["facts"],
        **facts,
        "epochs": num_samples / trainer.data.samples_per_epoch,
        "first_loss": state["losses"][0],
        "last_loss": state["losses"][-1],
        "validation_losses": state["validations"],
        "backend": config.backend,
        "device": config.device,
        "precision": config.precision,
    }
    _write_json(job.output / "training.json", {"task": job.task, **counts, **proofs})
    return TrainingResult(counts=counts, proofs=proofs)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
