"""The command line as a user runs it, and what a store holds afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MICRO = ROOT / "tests" / "fixtures" / "micro.yaml"


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

    def start(self, *words: object, **environment: str) -> subprocess.Popen[str]:
        """Starts it in a process group of its own, to be killed; `environment` is laid over ours."""
        return subprocess.Popen(
            [*self.command, *map(str, words)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **environment},
        )


def digests(store: Path) -> dict[str, str]:
    """Content digest of each stage's only artifact in a store."""
    found: dict[str, str] = {}
    for path in store.glob("[!.]*/*/manifest.json"):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        assert manifest["stage"] not in found, f"two artifacts of {manifest['stage']}"
        found[manifest["stage"]] = manifest["digest"]
    return found
