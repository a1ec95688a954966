"""A Prefect server that is away for a while: what must be heard is said again, what need not be is left unsaid."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

OUTAGE_SECONDS = 900.0
"""So long is a server waited for that does not answer."""
RETRY_SECONDS = 2.0
T = TypeVar("T")
log = logging.getLogger(__name__)


def patiently(ask: Callable[[], T], seconds: float = OUTAGE_SECONDS) -> T:
    """What `ask` returns, asked again while the server is away. Raises that error after `seconds`, others at once.

    Prefect's clients try again by themselves, but not one that has never reached the server.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except Exception as error:
            if not _is_outage(error) or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_SECONDS)


def tell(what: str, say: Callable[[], T], seconds: float = 0.0) -> T | None:
    """What `say` returns; None, and a warning, where the server does not take it in `seconds`: no work ends by it."""
    try:
        return patiently(say, seconds)
    except httpx.HTTPError as error:
        log.warning("%s not told to the server: %s", what, error or type(error).__name__)
        return None


def _is_outage(error: BaseException) -> bool:
    """Whether the server was away, rather than of another opinion; Prefect's own errors name theirs as their cause."""
    cause = error if isinstance(error, httpx.HTTPError) else error.__cause__
    return isinstance(cause, httpx.TransportError) or (
        isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code >= 500
    )
