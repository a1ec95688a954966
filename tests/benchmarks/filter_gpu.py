"""The stage filter with scores by one GPU against the same stage on the cores alone, from parquet to sealed rows.

    python tests/benchmarks/filter_gpu.py --documents 1000000 --workers 16

Documents are those of the sample (about 0.8 kB, Japanese, some of them planted to be removed), made by all cores.
Every engine runs in a process of its own: cold (libraries, context, compilation of kernels and the stage), then warm;
from 512 MB of text on, the workers are new processes each time, which are cold. `same_bytes` compares all files of the
engines. `core` tells what a document takes of one core, in microseconds: a whole row group without reading and writing,
and the scores of each step by the core and by the GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from measuring import measure, tell

DOCUMENTS_PER_SHARD = 20_000
MEASURED = 8192
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--engines", default="cudf,local")
    parser.add_argument("--presets", default="default,web")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--warm-runs", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where corpora and outputs go; none: a temporary one")
    parser.add_argument("--build", nargs=4, metavar=("ENGINE", "PRESET", "CORPUS", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        engine, preset, corpus, out = options.build
        build(engine, preset, Path(corpus), Path(out), options)
        return
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="tsuzuki-bench-") as folder:
        make_corpus(options.documents, Path(folder, "corpus"), options.workers)
        for preset in options.presets.split(","):
            compare(preset, Path(folder), options)
        cost_of_steps(Path(folder, "corpus"), options.engines.split(","))


def compare(preset: str, folder: Path, options: Any) -> None:
    seen: dict[str, str] = {}
    for engine in options.engines.split(","):
        with tempfile.TemporaryDirectory(dir=folder) as out:
            words = [sys.executable, __file__, "--workers", options.workers, "--warm-runs", options.warm_runs]
            measured = measure([*words, "--build", engine, preset, folder / "corpus", out])
        *figures, seen[engine] = measured.stdout.splitlines()
        peak = round(measured.peak_bytes / 1e9, 2)
        for run in map(json.loads, figures):
            speed = round(options.documents / run["seconds"])
            shared = {"documents": options.documents, "documents_per_second": speed, "host_peak_gigabytes": peak}
            tell("filter", engine=engine, preset=preset, **shared, **run)
    tell("filter files", preset=preset, engines=list(seen), same_bytes=len(set(seen.values())) == 1)


def build(engine: str, preset: str, corpus: Path, out: Path, options: Any) -> None:
    """The measured process: the stage body, cold and warm; a line of figures each, then the hashes of all files."""
    from data_contracts.artifacts import RawCorpus
    from tasks.curation.config import FilterConfig
    from tasks.curation.filtering import filter_documents
    from tasks.runtime import Runtime
    from tasks.workspace import Workspace

    files = ""
    for run in ("cold", *["warm"] * options.warm_runs):
        shutil.rmtree(out)
        started = time.perf_counter()
        workspace = Workspace(out, Runtime(store=out, workers=options.workers, engine=engine))
        config = FilterConfig.model_validate({"preset": preset})
        summary = filter_documents(config, workspace, RawCorpus(path=corpus, digest=""))
        seconds = round(time.perf_counter() - started, 3)
        workspace.clear_scratch()
        files = " ".join(f"{entry.name}={entry.sha256}" for entry in workspace.files())
        print(json.dumps({"run": run, "seconds": seconds, "kept": summary.counts["num_documents_kept"]}), flush=True)
    print(files)


def cost_of_steps(corpus: Path, engines: list[str]) -> None:
    """Microseconds a document for one core: cleaning, whole row groups, the scores of each step."""
    import pyarrow.parquet as pq

    from tasks.curation.config import FilterConfig
    from tasks.curation.filtering import sift
    from tasks.curation.normalization import normalize_texts

    shard = min((corpus / "documents").iterdir())
    table = pq.ParquetFile(shard).read_row_group(0).slice(0, MEASURED)
    texts, config = table["text"].combine_chunks(), FilterConfig()
    tell("core", what="normalize", microseconds=_best(lambda: normalize_texts(texts, config.normalization), texts))
    scorers: dict[str, Any] = {"local": None}
    on_device: Any = ()
    if "cudf" in engines:
        from tasks.curation.engines.device_filtering import scores_by_device
        from tasks.curation.engines.device_scores import SCORES

        scorers["cudf"], on_device = scores_by_device(), SCORES.keys()
    for preset in ("default", "web"):
        chosen = FilterConfig.model_validate({"preset": preset})
        for engine, scorer in scorers.items():
            whole = _best(lambda c=chosen, s=scorer: sift(table, c, {}, "train", s), texts)
            tell("core", what="row group", preset=preset, engine=engine, microseconds=whole)
    for step in FilterConfig.model_validate({"preset": "web"}).cascade:
        figures = {"local": _best(lambda s=step: s.scores(texts), texts)}
        if step.filter in on_device:
            figures["cudf"] = _best(lambda s=step: scorers["cudf"]([s], texts), texts)
        tell("core", what=step.filter, **figures)


def _best(function: Callable[[], Any], texts: Any) -> float:
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return round(min(seconds) / len(texts) * 1e6, 2)


def make_corpus(num_documents: int, folder: Path, workers: int) -> None:
    started = time.perf_counter()
    (folder / "documents").mkdir(parents=True)
    numbers = range(-(-num_documents // DOCUMENTS_PER_SHARD))
    with ProcessPoolExecutor(workers) as pool:
        num_bytes = sum(pool.map(make_shard, repeat(folder), numbers, repeat(num_documents)))
    made = round(time.perf_counter() - started, 1)
    tell("corpus", documents=num_documents, bytes_a_document=round(num_bytes / num_documents), seconds=made)


def make_shard(folder: Path, number: int, num_documents: int) -> int:
    """Bytes of the texts of a shard, which is written. Each is a sample of its own, with its own ids."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from data_contracts.rows import DOCUMENTS, PARQUET_OPTIONS, ROWS_PER_GROUP
    from tasks.acquire import sample

    size = min(DOCUMENTS_PER_SHARD, num_documents - number * DOCUMENTS_PER_SHARD)
    documents = list(sample.generate(size, seed=number).documents())
    columns = {
        "id": [f"{number:05d}-{one.id}" for one in documents],
        "text": [one.text for one in documents],
        "source": [f"bench/{number}"] * size,
        "url": [""] * size,
        "title": [one.title for one in documents],
        "meta": ["{}"] * size,
    }
    table = pa.table(columns).select(DOCUMENTS.names).cast(DOCUMENTS)
    path = folder / "documents" / f"train-{number:05d}.parquet"
    pq.write_table(table, path, row_group_size=ROWS_PER_GROUP, **PARQUET_OPTIONS)
    return sum(len(one.text.encode()) for one in documents)


if __name__ == "__main__":
    main()
