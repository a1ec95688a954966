"""The training loop: the same for pretraining and LoRA, resumable at any step without changing a bit."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from data_contracts.errors import WorkerLost
from tasks.training.batches import IGNORED, Batch, TrainingData
from tasks.training.checkpoints import Checkpoint, CheckpointFolder
from tasks.training.config import OptimizationConfig
from tasks.training.guard import LossGuard
from tasks.training.metrics import MetricsLog
from tasks.training.schedule import learning_rate

Emit = Callable[..., None]


class Trainer:
    """Trains every parameter of `model` that requires a gradient for num_steps optimizer steps.

    state: everything besides tensors that a resumed run must know, as JSON; `facts` in it go into training.json.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        data: TrainingData,
        config: OptimizationConfig,
        num_steps: int,
        scratch: Path,
        logs: Path,
        emit: Emit,
    ) -> None:
        self.model = model
        self.data = data
        self.config = config
        self.num_steps = num_steps
        self.emit = emit
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = _optimizer(self.parameters, config)
        self.forward = torch.compile(model) if config.compile else model
        self.checkpoints = CheckpointFolder(scratch / "checkpoints", config.keep_checkpoints)
        self.state: dict[str, Any] = {
            "step": 0, "tokens": 0, "losses": [], "validations": [], "recent": [], "spikes": 0, "facts": {}
        }  # fmt: skip
        self.resumed = self._restore()
        self._metrics_path = logs / "metrics.jsonl"
        self._validation = data.validation()
        self._terminated = False

    @property
    def step(self) -> int:
        return self.state["step"]

    def run(self) -> None:
        """Trains to the last step. Raises TrainingDiverged, and WorkerLost after a checkpoint when told to stop."""
        self.emit("start", step=self.step, steps=self.num_steps)
        self.metrics = MetricsLog(self._metrics_path, self.step if self.resumed else None)
        with self._termination_noted(), contextlib.closing(self.metrics):
            if not self.resumed:
                torch.manual_seed(self.config.seed)
                self._validate()
            self._clock, self._clock_tokens = time.perf_counter(), self.state["tokens"]
            self.model.train()
            while self.step < self.num_steps:
                self._train_step(self.step + 1)
                last = self.step == self.num_steps
                if last or self.step % self.config.validate_every_steps == 0:
                    self._validate()
                if last or self._terminated or self.step % self.config.checkpoint_every_steps == 0:
                    self._save()
                if self._terminated and not last:
                    raise WorkerLost(
                        f"`step {self.step}`: stopped by SIGTERM after a checkpoint",
                        hint="run the same command again; it continues from that step",
                    )

    def loss_sum(self, batch: Batch) -> torch.Tensor:
        """Sum of the cross-entropy over the batch's targets, in nats, fp32."""
        input_ids, targets = batch.to(self.config.device)
        with torch.autocast(self.config.device, torch.bfloat16, enabled=self.config.precision == "bf16"):
            logits = self.forward(input_ids=input_ids, use_cache=False).logits
        return functional.cross_entropy(
            logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    @torch.no_grad()
    def mean_loss(self, batches: list[Batch]) -> float:
        """Loss per target token in eval mode, in nats."""
        was_training = self.model.training
        self.model.eval()
        total = sum(float(self.loss_sum(batch)) for batch in batches)
        self.model.train(was_training)
        return total / sum(batch.num_targets for batch in batches)

    def _train_step(self, step: int) -> None:
        batches = self.data.micro_batches(step)
        num_targets = sum(batch.num_targets for batch in batches)
        total = torch.zeros((), device=self.config.device)
        for batch in batches:
            loss = self.loss_sum(batch) / num_targets
            loss.backward()
            total += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.gradient_clip_norm)
        rate = learning_rate(step, self.num_steps, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        mean, norm = float(total), float(norm)
        self._guard(step, mean, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state["step"] = step
        self.state["tokens"] += num_targets
        self.state["losses"] = [self.state["losses"][0] if self.state["losses"] else mean, mean]
        if step % self.config.log_every_steps == 0 or step in (1, self.num_steps):
            self._log(mean, rate, norm)

    def _guard(self, step: int, loss: float, norm: float) -> None:
        config, state = self.config, self.state
        guard = LossGuard(config.loss_spike_limit, config.loss_spike_steps, state["recent"], state["spikes"])
        guard.check(step, loss, norm)
        state["recent"], state["spikes"] = guard.recent, guard.spikes

    def _log(self, loss: float, rate: float, norm: float) -> None:
        now, tokens = time.perf_counter(), self.state["tokens"]
        speed = (tokens - self._clock_tokens) / (now - self._clock)
        self._clock, self._clock_tokens = now, tokens
        row = {
            "step": self.step,
            "loss": loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "tokens_consumed": tokens,
            "epoch": round(self.step * self.config.global_batch_size / self.data.samples_per_epoch, 4),
            "tokens_per_second": round(speed, 1),
        }
        self.metrics.write(row)
        self.emit("progress", **row)

    def _validate(self) -> None:
        if not self._validation:
            return
        started = time.perf_counter()
        loss = self.mean_loss(self._validation)
        self.state["validations"].append([self.step, loss])
        self.metrics.write({"step": self.step, "validation_loss": loss})
        self.emit("validation", step=self.step, validation_loss=loss)
        if self.step:
            self._clock += time.perf_counter() - started  # the speed is that of training alone

    def _save(self) -> None:
        started = time.perf_counter()
        self.metrics.sync()
        random = {"cpu": torch.get_rng_state()}
        if self.config.device == "cuda":
            random["cuda"] = torch.cuda.get_rng_state()
        tensors = {name: p.detach().cpu().contiguous() for name, p in self.parameters.items()}
        self.checkpoints.save(self.step, Checkpoint(tensors, self.optimizer.state_dict(), random, self.state))
        self.emit("checkpoint", step=self.step)
        self._clock += time.perf_counter() - started

    def _restore(self) -> bool:
        found = self.checkpoints.load_latest(lambda message: self.emit("warning", message=message))
        if found is None:
            return False
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(found.parameters[name])
        self.optimizer.load_state_dict(found.optimizer)
        torch.set_rng_state(found.random["cpu"])
        if self.config.device == "cuda":
            torch.cuda.set_rng_state(found.random["cuda"])
        self.state = found.state
        return True

    @contextlib.contextmanager
    def _termination_noted(self) -> Iterator[None]:
        def note(*_: object) -> None:
            self._terminated = True

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def _optimizer(parameters: dict[str, torch.nn.Parameter], config: OptimizationConfig) -> torch.optim.AdamW:
    """AdamW whose decay spares vectors, that is norms and biases."""
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    vectors = [p for p in parameters.values() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=True,
    )
