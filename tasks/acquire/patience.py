"""How often a request is tried, how long is waited in between, and many at the same time, stopped together."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from data_contracts.errors import TransientSourceError
from tasks.acquire.config import TransferConfig

Item = TypeVar("Item")
Result = TypeVar("Result")
TICK_SECONDS = 0.5


class Stopped(Exception):
    """Another request failed for good, so this one ends where it is."""


class Busy(TransientSourceError):
    """The server asks to be left alone for `retry_after_seconds`."""

    retry_after_seconds = 0.0


class Patience:
    """Waits between tries, twice as long after each, and raises the error of the last one when they are used up."""

    def __init__(self, config: TransferConfig, stop: threading.Event) -> None:
        self.config, self.stop = config, stop
        self.num_tries = 0

    def renew(self) -> None:
        """What was tried made headway, so the count starts over."""
        self.num_tries = 0

    def wait(self, error: TransientSourceError) -> None:
        self.num_tries += 1
        if self.num_tries >= self.config.max_tries:
            raise TransientSourceError(f"{error.message} (tries: {self.num_tries})", hint=error.hint) from error
        delay = min(self.config.first_delay_seconds * 2 ** (self.num_tries - 1), self.config.max_delay_seconds)
        # Spread, so that connections refused together do not come back together.
        delay *= random.uniform(0.5, 1)  # noqa: S311 - no secret
        asked = error.retry_after_seconds if isinstance(error, Busy) else 0.0
        if self.stop.wait(min(asked, self.config.max_delay_seconds) + delay):
            raise Stopped from error


def retry_after_seconds(value: str) -> float:
    """Seconds that a `Retry-After` header asks for, as a number or as an HTTP date; 0 where it says neither."""
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def in_parallel(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    max_connections: int,
    stop: threading.Event,
    tick: Callable[[int], None] = lambda num_done: None,
) -> list[Result]:
    """The result for each item, in their order.

    tick: called from this thread with the number of finished items, about twice a second. When one item fails, `stop`
    is set, the others end soon, and its error is raised; so it is when this thread is interrupted.
    """
    with ThreadPoolExecutor(max_connections, thread_name_prefix="download") as pool:
        futures = [pool.submit(function, item) for item in items]
        pending = set(futures)
        try:
            while pending:
                done, pending = wait(pending, timeout=TICK_SECONDS, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                tick(len(futures) - len(pending))
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]
