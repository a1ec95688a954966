"""Learning rate as a pure function of the step: nothing to save, nothing to go wrong on resume."""

from __future__ import annotations

import math

from tasks.training.config import OptimizationConfig


def learning_rate(step: int, num_steps: int, config: OptimizationConfig) -> float:
    """Learning rate of optimizer step `step` (1 to num_steps): linear warm-up, then cosine down to the floor.

    A warm-up longer than half the training is cut to half, so that short runs reach the peak as well.
    """
    warmup = min(config.warmup_steps, num_steps // 2)
    if step <= warmup:
        return config.learning_rate * step / warmup
    progress = (step - warmup) / max(1, num_steps - warmup)
    floor = config.min_learning_rate
    return floor + (config.learning_rate - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
