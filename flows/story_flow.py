"""The decorator of our flows: its runs are named after their config, and their failures are told in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import Flow, flow

from flows.ui.failures import tell_failures_in_words
from flows.ui.names import run_name


def story_flow(name: str) -> Callable[[Callable[..., Any]], Flow[..., Any]]:
    """A flow whose parameters are validated against the config tree."""
    # Before any run: Prefect refuses wrong parameters, with a traceback, before it calls the flow.
    tell_failures_in_words()
    return flow(name=name, flow_run_name=run_name(name), persist_result=False, validate_parameters=True)
