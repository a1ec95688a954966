"""The corpus half on the same documents in few and in many files."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import tempfile
from pathlib import Path

import yaml
from measuring import measure
from standing_server import StandingServer

ROOT = Path(__file__).resolve().parents[2]
MICRO = ROOT / "tests" / "fixtures" / "micro.yaml"
STAGES = ("acquire", "filter", "dedup", "split", "binarize")
SHARD_FIGURES = (*(f"{stage}_s" for stage in STAGES), "total_s", "peak_mb", "task_runs", "requests")
"""Those of which a ratio says something."""


def sharded_corpus(num_documents: int, num_shards: int, folder: Path) -> Path:
    """A folder of so many `.jsonl.gz` that hold the sample corpus of that size, the same whatever their number."""
    from tasks.acquire import sample

    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        sample.write(sample.generate(num_documents, seed=7), Path(made))
        lines = [
            line
            for path in sorted(Path(made).rglob("*.jsonl.gz"))
            for line in gzip.decompress(path.read_bytes()).splitlines(keepends=True)
        ]
    folder.mkdir()
    for number in range(num_shards):
        part = lines[len(lines) * number // num_shards : len(lines) * (number + 1) // num_shards]
        (folder / f"train-{number:05d}.jsonl.gz").write_bytes(gzip.compress(b"".join(part), 1, mtime=0))
    return folder


def sharded_run(corpus: Path, folder: Path, server: StandingServer, environment: dict[str, str]) -> dict[str, float]:
    """One run from the files to token files on a new store: seconds and files by stage, memory, what the server saw."""
    store, asked = Path(tempfile.mkdtemp(dir=folder)), server.num_requests()
    model = folder / "small-model.yaml"
    model.write_text(yaml.safe_dump({"model": yaml.safe_load(MICRO.read_text())["model"]}))
    words = ["--config", model, "--set", "source.kind=local", "--set", f"source.path={corpus}"]
    words += ["--set", "source.max_quarantined_share=1", "--until", "binarize", "--store", store]
    measured = measure([sys.executable, "-m", "flows.cli", "run", "demo", *words], cwd=ROOT, env=environment)
    figures: dict[str, float] = {"total_s": measured.seconds, "peak_mb": measured.peak_bytes / 1e6}
    figures["requests"] = server.num_requests() - asked
    for told in map(json.loads, measured.stdout.splitlines()):
        if told["stage"] in STAGES:
            figures[f"{told['stage']}_s"] = told["seconds"]
            manifest = json.loads(Path(told["path"], "manifest.json").read_text())
            figures[f"{told['stage']}_files"] = len(manifest["files"])
    figures["task_runs"] = server.num_task_runs(server.last_flow_run())
    shutil.rmtree(store)
    return figures
