"""Follows a NeMo training from within: gates, learning rate, figures, validation, checkpoints, a timely end."""

# pyright: reportMissingImports=false
# lightning, megatron and nemo are of the environment of backend `nemo`.
from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from data_contracts.errors import ConfigError, DamagedArtifact, WorkerLost
from tasks.training.guard import LossGuard
from tasks.training.metrics import MetricsLog
from tasks.training.nemo_checkpoints import prune
from tasks.training.nemo_job import EventLog, TrainingState, read_job, read_state, write_state
from tasks.training.nemo_logits import save_logits
from tasks.training.nemo_recipes import model_settings
from tasks.training.schedule import learning_rate
from tasks.training.weights import prove_loss, prove_pretrained


class Watch(pl.Callback):
    """job: path of the NemoJob's JSON. resume_from: the checkpoint that the training goes on from, or None."""

    def __init__(self, job: str, resume_from: str | None) -> None:
        self.job = read_job(job)
        self.config = self.job.training.config
        self.state = read_state(Path(resume_from)) if resume_from else TrainingState()
        self.resumed = resume_from is not None
        self._terminated = False
        self._validation: list[float] = []

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        _prove_data(trainer.datamodule, self.job)
        assert self.config.nemo is not None
        for name, value in model_settings(self.job.training.task, self.config.nemo).items():
            setattr(pl_module.config, name, value)  # NeMo builds the model after this
        self.first = trainer.global_rank == 0
        signal.signal(signal.SIGTERM, self._note_termination)
        if self.first:
            self.emit = EventLog(self.job.events)
            path = self.job.training.output / "logs" / "metrics.jsonl"
            self.metrics = MetricsLog(path, self.state.step if self.resumed else None)
            self.emit("start", step=self.state.step, steps=self.job.num_steps)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_step != self.state.step:
            raise DamagedArtifact(
                f"`{self.job.checkpoints}`: NeMo resumed at step {trainer.global_step}, the checkpoint's state says "
                f"{self.state.step}",
                hint="delete the newest folder there and run again",
            )
        self._clock, self._clock_tokens = time.perf_counter(), self.state.tokens

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        rate = learning_rate(self.state.step + 1, self.job.num_steps, self.config)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = float(trainer.callback_metrics["reduced_train_loss"])
        norm = float(trainer.callback_metrics["grad_norm"])
        state, step = self.state, trainer.global_step
        if step == 1:
            state.step0_loss = loss
            if self.first:  # stages amid a pipeline hold no loss
                self._prove_start(loss)
        self._guard(step, loss, norm)
        state.step = step
        state.tokens += trainer.datamodule.num_targets.pop(step)
        state.losses = [state.losses[0] if state.losses else loss, loss]
        last = step == self.job.num_steps
        if step % self.config.log_every_steps == 0 or step == 1 or last:
            self._log(loss, norm)
        trainer.should_stop = last  # Lightning then validates whatever the step
        if not self._validates(step):
            self._maybe_save(trainer)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._validation, self._validation_started = [], time.perf_counter()

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._validation.append(float(_from_last_stage(outputs)))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        weights = trainer.datamodule.validation_targets()
        loss = sum(loss * weight for loss, weight in zip(self._validation, weights, strict=True)) / sum(weights)
        self.state.validations.append((self.state.step, loss))
        if self.first:
            self.metrics.write({"step": self.state.step, "validation_loss": loss})
            self.emit("validation", step=self.state.step, validation_loss=loss)
        if not trainer.sanity_checking:
            self._clock += time.perf_counter() - self._validation_started
            self._maybe_save(trainer)

    def _validates(self, step: int) -> bool:
        due = step == self.job.num_steps or step % self.config.validate_every_steps == 0
        return due and self.config.validation_batches > 0

    def _prove_start(self, loss: float) -> None:
        job, config = self.job, self.config
        prove_loss(job.training.model, loss, job.reference_loss, config.precision)
        if job.expect_pretrained:
            prove_pretrained(job.training.model, loss, job.vocabulary_size)

    def _guard(self, step: int, loss: float, norm: float) -> None:
        config, state = self.config, self.state
        guard = LossGuard(config.loss_spike_limit, config.loss_spike_steps, state.recent, state.spikes)
        guard.check(step, loss, norm)
        state.recent, state.spikes = guard.recent, guard.spikes

    def _log(self, loss: float, norm: float) -> None:
        state, config = self.state, self.config
        now = time.perf_counter()
        speed = (state.tokens - self._clock_tokens) / (now - self._clock)
        self._clock, self._clock_tokens = now, state.tokens
        if not self.first:
            return
        row = {
            "step": state.step,
            "loss": loss,
            "learning_rate": learning_rate(state.step, self.job.num_steps, config),
            "gradient_norm": norm,
            "tokens_consumed": state.tokens,
            "epoch": round(state.step * config.global_batch_size / self._samples_per_epoch, 4),
            "tokens_per_second": round(speed, 1),
        }
        self.metrics.write(row)
        self.emit("progress", **row)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.num_sanity_val_steps = float("inf")  # NeMo leaves it out where the model is a pipeline
        self._samples_per_epoch = trainer.datamodule.batches.samples_per_epoch

    def _maybe_save(self, trainer: Any) -> None:
        last = self.state.step == self.job.num_steps
        terminated = _any_process(self._terminated)
        if last:
            assert self.config.nemo is not None
            sample = trainer.datamodule.batches.micro_batches(1)[0]
            save_logits(trainer.lightning_module, sample, self.config.nemo, self.job.last_logits)
        if last or terminated or self.state.step % self.config.checkpoint_every_steps == 0:
            self._save(trainer)
        if terminated and not last:
            raise WorkerLost(
                f"`step {self.state.step}`: stopped by SIGTERM after a checkpoint",
                hint="run the same command again; it continues from that step",
            )

    def _save(self, trainer: Any) -> None:
        started, step = time.perf_counter(), self.state.step
        path = self.job.checkpoints / f"step-{step:08d}"
        trainer.checkpoint_callback._save_checkpoint(trainer, f"{path}.ckpt")
        if self.first:
            self.metrics.sync()
            write_state(path, self.state)
            prune(self.job.checkpoints, self.config.keep_checkpoints)
            self.emit("checkpoint", step=step)
        _wait_for_all()  # a process that ends now makes torchrun end the first one, which may still be at it
        self._clock += time.perf_counter() - started

    def _note_termination(self, *_: object) -> None:
        self._terminated = True


def _prove_data(data: Any, job: Any) -> None:
    """Raises ConfigError unless the data module reads this job's files: NeMo's recipes name mock data."""
    found = getattr(data, "job", None)
    if found is None or (found.train, found.validation) != (job.training.train, job.training.validation):
        raise ConfigError(
            f"`data`: found {type(data).__name__}, expected one that reads {job.training.train}",
            hint="the recipe must not bring data of its own",
        )


def _from_last_stage(loss: Any) -> torch.Tensor:
    """The loss of a validation step on every process: the stages before the last one hold zero."""
    from megatron.core import parallel_state

    value = torch.as_tensor(loss).detach().float().clone().reshape(())
    if parallel_state.get_pipeline_model_parallel_world_size() > 1:
        torch.distributed.all_reduce(value, group=parallel_state.get_pipeline_model_parallel_group())
    return value


def _any_process(flag: bool) -> bool:
    """Whether any process of the training was told to stop."""
    distributed = torch.distributed
    if not _has_peers():
        return flag
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    told = torch.tensor(int(flag), device=device)
    distributed.all_reduce(told, op=distributed.ReduceOp.MAX)
    return bool(told)


def _wait_for_all() -> None:
    if _has_peers():
        torch.distributed.barrier()


def _has_peers() -> bool:
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
