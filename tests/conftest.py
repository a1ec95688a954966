"""What every test needs: a Prefect home of its own, the real corpus where it is, and the bundled CLI."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from command_line import MICRO, ROOT, Tsuzuki

# The first call of a kernel compiles it, which says nothing of the case at hand.
settings.register_profile("tsuzuki", deadline=None)
settings.load_profile("tsuzuki")

CORPUS = ROOT.parent / "shared" / "corpus"


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No hub, no telemetry, no state of the developer's: set before anything reads it."""
    os.environ.update(
        PREFECT_HOME=str(tmp_path_factory.mktemp("prefect")),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="1",
        HF_HUB_OFFLINE="1",
        WANDB_MODE="disabled",
        WANDB_ERROR_REPORTING="false",
    )
    # A suite that was started in the background ignores Ctrl-C, and so would every process that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def corpus() -> Path:
    """The real corpus in LLM-JP layout beside the checkout."""
    if not CORPUS.is_dir():
        pytest.skip(f"no real corpus at {CORPUS.relative_to(ROOT.parent)} beside the checkout")
    return CORPUS


@pytest.fixture
def tsuzuki() -> Tsuzuki:
    return Tsuzuki()


@pytest.fixture
def micro(tmp_path: Path) -> tuple[object, ...]:
    """Arguments of a whole pipeline that takes seconds, on a store of its own."""
    return ("demo", "--config", MICRO, "--store", tmp_path / "store")
