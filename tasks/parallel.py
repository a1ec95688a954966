"""One function over many items in worker processes, with results that do not depend on how many there are."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from data_contracts.errors import WorkerLost

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_items(
    function: Callable[..., Result], items: Sequence[Item], workers: int, *arguments: Any
) -> Iterator[tuple[int, Result]]:
    """Yields (index, function(item, *arguments)) as they finish; in this process when one worker or one item is enough.

    Processes are spawned, never forked: the caller has threads. Raises what the function raises, and WorkerLost when a
    process dies without a word (killed, out of memory).
    """
    if workers <= 1 or len(items) <= 1:
        for index, item in enumerate(items):
            yield index, function(item, *arguments)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=context) as pool:
        pending = {pool.submit(function, item, *arguments): index for index, item in enumerate(items)}
        try:
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield pending.pop(future), future.result()
        except BrokenProcessPool as error:
            raise WorkerLost(
                f"`{function.__name__}`: a process of {workers} died; {error}",
                hint="run the same command again; if memory ran out, set fewer workers (`--workers`)",
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
