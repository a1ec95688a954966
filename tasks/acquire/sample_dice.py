"""Reproducible choices for the sample corpus, equal on every platform and Python version."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Draws choices from `random.Random(...).random()` alone.

    Python promises the sequence of `random()` for a seed; it does not promise the results of `choice` or `shuffle`.
    """

    __slots__ = ("_random",)

    def __init__(self, seed: int, *path: int) -> None:
        """Start the stream named by `seed` and `path`, each part of the path below 2**32."""
        number = abs(seed)
        for part in path:
            number = (number << 32) | part
        self._random = random.Random(number).random  # noqa: S311 - reproducible text, no secret

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._random() < probability

    def between(self, low: float, high: float) -> float:
        """A float in [low, high)."""
        return low + (high - low) * self._random()

    def below(self, stop: int) -> int:
        """An integer in [0, stop)."""
        return int(self._random() * stop)

    def within(self, first: int, last: int) -> int:
        """An integer in [first, last]."""
        return first + int(self._random() * (last - first + 1))

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self._random() * len(options))]

    def some(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different positions of `options`, in drawn order (all of them, shuffled, if there are fewer)."""
        pool = list(options)
        count = min(count, len(pool))
        for place in range(count):
            other = place + int(self._random() * (len(pool) - place))
            pool[place], pool[other] = pool[other], pool[place]
        return pool[:count]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """All options in drawn order."""
        return self.some(options, len(options))
