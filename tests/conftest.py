"""What every test needs: a Prefect home of its own, the real corpus where it is, and the bundled CLI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT.parent / "shared" / "corpus"
MICRO = ROOT / "tests" / "fixtures" / "micro.yaml"


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No hub, no telemetry, no state of the developer's: set before anything reads it."""
    os.environ.update(
        PREFECT_HOME=str(tmp_path_factory.mktemp("prefect")),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="1",
        HF_HUB_OFFLINE="1",
        WANDB_MODE="disabled",
    )


@pytest.fixture
def corpus() -> Path:
    """The real corpus in LLM-JP layout beside the checkout."""
    if not CORPUS.is_dir():
        pytest.skip(f"no real corpus at {CORPUS.relative_to(ROOT.parent)} beside the checkout")
    return CORPUS


class Tsuzuki:
    """The command line, run as a user would run it."""

    command = (sys.executable, "-m", "flows.cli")

    def __call__(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [*self.command, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=500
        )
        assert result.returncode == code, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    def stages(self, *words: object) -> dict[str, dict]:
        """The JSON lines of `run`, by stage."""
        lines = [json.loads(line) for line in self("run", *words).stdout.splitlines()]
        return {line["stage"]: line for line in lines}

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Starts it in a process group of its own, to be killed."""
        return subprocess.Popen(
            [*self.command, *map(str, words)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


@pytest.fixture
def tsuzuki() -> Tsuzuki:
    return Tsuzuki()


@pytest.fixture
def micro(tmp_path: Path) -> tuple[object, ...]:
    """Arguments of a whole pipeline that takes seconds, on a store of its own."""
    return ("demo", "--config", MICRO, "--store", tmp_path / "store")


def digests(store: Path) -> dict[str, str]:
    """Content digest of each stage's only artifact in a store."""
    found: dict[str, str] = {}
    for path in store.glob("[!.]*/*/manifest.json"):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        assert manifest["stage"] not in found, f"two artifacts of {manifest['stage']}"
        found[manifest["stage"]] = manifest["digest"]
    return found
