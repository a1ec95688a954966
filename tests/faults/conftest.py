"""The table of faults that `make faults` ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faulting import FaultLog
from plain_runs import run_plainly

LOG = FaultLog()


@pytest.fixture(scope="session")
def fault_log() -> FaultLog:
    """Where each test names the faults that it tries."""
    return LOG


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a micro pipeline that nothing disturbed; to be read only."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    run_plainly(store)
    return store


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (told := getattr(session.config, "workeroutput", None)) is not None:  # one of the processes of pytest-xdist
        told["faults"] = [LOG.tried, LOG.seconds]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hears of a process of pytest-xdist that it has ended."""
    if "faults" in getattr(node, "workeroutput", {}):
        LOG.add(*node.workeroutput["faults"])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not LOG.tried:
        return
    write = terminalreporter.write_line
    terminalreporter.section("faults")
    write("| fault | tried | survived | median seconds to recover | longest |")
    write("| --- | --- | --- | --- | --- |")
    for fault, tried, survived, median, longest in LOG.rows():
        write(f"| {fault} | {tried} | {survived} | {median:.1f} | {longest:.1f} |")
    write(f"| **all** | {sum(LOG.tried.values())} | {sum(map(len, LOG.seconds.values()))} | | |")
