"""The whole corpus half on one corpus: time, documents/s and MB/s of each stage, peak memory, and the limit beside it.

    python tests/benchmarks/half.py --documents 1000000        (made by the sample generator, in a folder of its own)
    python tests/benchmarks/half.py --corpus FOLDER

The limit is what gunzip and JSON parsing alone take, on one core: no pipeline that reads these files can be faster. MB
are those of the JSON lines that a stage's documents came in.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import measure, tell

STAGES = ("acquire", "filter", "dedup", "split", "binarize")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="folder of JSON lines; none: the sample generator makes one")
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where corpus and store go; none: a temporary one")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="as in `tsuzuki run --set`")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="tsuzuki-bench-") as folder:
        corpus = options.corpus or make_corpus(options.documents, Path(folder, "corpus"))
        bound = limit(corpus)
        tell("limit: gunzip and parse", **bound)
        for run in range(options.runs):
            tell("half", run=run, **half(corpus, Path(folder, f"store-{run}"), options.set, bound))


def make_corpus(num_documents: int, folder: Path) -> Path:
    from tasks.acquire import sample

    sample.write(sample.generate(num_documents, seed=7), folder)
    return folder


def limit(corpus: Path) -> dict[str, Any]:
    """isal and orjson over all lines, on one core, nothing kept."""
    import orjson
    from isal import igzip

    started, num_bytes, num_lines = time.perf_counter(), 0, 0
    for path in sorted(corpus.rglob("*.jsonl.gz")):
        with igzip.open(path, "rb") as lines:
            for line in lines:
                num_bytes += len(line)
                num_lines += 1
                try:
                    orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue  # quarantined by the pipeline
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "lines": num_lines,
        "mb": num_bytes / 1e6,
        "lines_per_second": num_lines / seconds,
        "mb_per_second": num_bytes / seconds / 1e6,
    }


def half(corpus: Path, store: Path, assignments: list[str], bound: dict[str, Any]) -> dict[str, Any]:
    """One run from the files to token files on a new store, as a user would start it."""
    words = ["--set", "source.kind=local", "--set", f"source.path={corpus}", "--set", "source.max_quarantined_share=1"]
    for assignment in assignments:
        words += ["--set", assignment]
    command = [
        Path(sys.executable).with_name("tsuzuki"),
        "run",
        "demo",
        "--until",
        "binarize",
        "--store",
        store,
        *words,
    ]
    measured = measure(command)
    result: dict[str, Any] = {"seconds": measured.seconds, "peak_gb": measured.peak_bytes / 1e9}
    result |= {"lines_per_second": bound["lines"] / measured.seconds, "mb_per_second": bound["mb"] / measured.seconds}
    for line in measured.stdout.splitlines():
        told = json.loads(line)
        if told["stage"] in STAGES:
            result[told["stage"]] = stage_figures(Path(told["path"]), told["seconds"], bound["mb"] / bound["lines"])
    return result


def stage_figures(folder: Path, seconds: float, mb_a_line: float) -> dict[str, float]:
    counts = json.loads((folder / "manifest.json").read_text())["summary"]["counts"]
    num_in = counts.get("num_lines_in") or counts.get("num_documents_in")
    if num_in is None:
        num_in = counts["num_documents_train"] + counts["num_documents_validation"]
    rate = num_in / seconds
    return {
        "seconds": seconds,
        "documents": num_in,
        "documents_per_second": round(rate),
        "mb_per_second": round(rate * mb_a_line, 1),
    }


if __name__ == "__main__":
    main()
