"""Stops a training whose loss is no number or has exploded."""

from __future__ import annotations

import math
from statistics import median

from data_contracts.errors import TrainingDiverged

MEDIAN_WINDOW_STEPS = 100
HINT = "lower learning_rate, lengthen warmup_steps, or look at the data around that step; then run again"


class LossGuard:
    """Looks at every step's loss; its two fields are all its state, so that a resumed run judges alike."""

    def __init__(self, spike_limit: float, spike_steps: int, recent: list[float], spikes: int) -> None:
        self.spike_limit = spike_limit
        self.spike_steps = spike_steps
        self.recent = recent
        self.spikes = spikes

    def check(self, step: int, loss: float, gradient_norm: float) -> None:
        """Raises TrainingDiverged for a loss or norm that is not finite, or a loss that stays far above the median."""
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise TrainingDiverged(
                f"`step {step}`: loss {loss}, gradient norm {gradient_norm}; expected finite numbers", hint=HINT
            )
        usual = median(self.recent) if self.recent else loss
        self.spikes = self.spikes + 1 if loss > self.spike_limit * usual else 0
        if self.spikes >= self.spike_steps:
            raise TrainingDiverged(
                f"`step {step}`: loss {loss:.3f} is above {self.spike_limit} times the running median {usual:.3f} "
                f"for {self.spikes} steps",
                hint=HINT,
            )
        self.recent = [*self.recent, loss][-MEDIAN_WINDOW_STEPS:]
