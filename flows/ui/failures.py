"""A failed run tells its error and hint in the UI, once and in words: no wall of traceback in its log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger
from prefect.exceptions import ParameterTypeError

from data_contracts.errors import TsuzukiError
from flows.events import error_words

LOGGERS = ("prefect.task_runs", "prefect.flow_runs", "prefect.engine")
"""Through these Prefect logs an exception of a task, then of the flow, then of the process, each with a traceback."""

FINISHED = ("Finished in state Failed(", "Finished in state Completed(")
"""Lines that say once more, and as a Python literal, what the line of a stage says."""


class InWords(logging.Filter):
    """Replaces the traceback of an error that tells by itself what was found and what to do; the next ones are dropped.

    Errors of any other kind are bugs, and keep their traceback.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is kept, after its words were replaced."""
        if str(record.msg).startswith(FINISHED):
            return False
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, TsuzukiError | ParameterTypeError):
            return True
        if error is self._told:
            return False
        self._told = error
        words = error_words(error)
        hint = f"\nhint: {words['hint']}" if words["hint"] else ""
        record.msg, record.args = f"{words['error']}: {words['message']}{hint}", None
        record.exc_info = record.exc_text = None
        return True


@contextmanager
def told_in_log() -> Iterator[None]:
    """Logs an error of ours with the task run that it ends, each attempt's; it passes on."""
    try:
        yield
    except TsuzukiError as error:
        get_run_logger().error("the stage failed", exc_info=error)
        raise


def tell_failures_in_words() -> None:
    """Has this process's Prefect loggers do so; once is enough, and again changes nothing."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(found, InWords) for found in logger.filters):
            logger.addFilter(IN_WORDS)


IN_WORDS = InWords()
