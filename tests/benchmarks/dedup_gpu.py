"""The stage dedup on GPUs against the same stage on the cores beside them, from parquet to sealed rows.

    python tests/benchmarks/dedup_gpu.py --documents 1000000,5000000 --workers 16
    python tests/benchmarks/dedup_gpu.py --documents 5000000 --engines cudf,cudf-all,local --local-once --threads

Documents are those of dedup.py (about 340 characters, 1 kB; a sixth in families of similar ones), made by all cores.
Every engine runs in a process of its own: cold (libraries, context, compilation of kernels and the stage), then warm.
`seconds_to_kept_ids` ends when it is known which documents stay: read, exact, MinHash, banding, exact decision,
components; `seconds` is the whole stage, with shards, ledger, clusters and proofs on disk. `same_bytes` compares all
files of the engines. `gpu_peak_gigabytes` is what the pool gave out at most. Here the engine `cudf` takes the first
GPU, and `cudf-all` all of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import wraps
from itertools import repeat
from pathlib import Path
from typing import Any

from dedup import DOCUMENTS_PER_SHARD, documents, row_schema, vocabulary
from measuring import measure, tell

SHARED_ORIGINALS = 200
"""Documents whose copies stand in SHARDS_TOGETHER shards, besides those with copies in one."""

SHARDS_TOGETHER = 4
MEMORY_BYTES = 64 << 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", default="1000000", help="numbers of documents, with commas")
    parser.add_argument("--engines", default="cudf,local")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--warm-runs", type=int, default=2)
    parser.add_argument("--threads", action="store_true", help="a warm run more, whose shards are written by threads")
    parser.add_argument("--local-once", action="store_true", help="no warm run of the local engine")
    parser.add_argument("--folder", type=Path, help="where corpora and outputs go; none: a temporary one")
    parser.add_argument("--make", type=Path, help="only makes the corpora, as numbered folders of this one")
    parser.add_argument("--made", type=Path, help="a folder that --make has filled")
    parser.add_argument("--build", nargs=3, metavar=("ENGINE", "CORPUS", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build:
        engine, corpus, out = options.build
        build(engine, Path(corpus), Path(out), options)
        return
    numbers = [int(number) for number in options.documents.split(",")]
    for number in numbers if options.make else ():
        make_corpus(number, options.make / str(number), options.workers)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="tsuzuki-bench-") as folder:
        for number in () if options.make else numbers:
            compare(number, (options.made or Path(folder)) / str(number), options)


def compare(num_documents: int, corpus: Path, options: Any) -> None:
    started = time.perf_counter()
    if not options.made:
        make_corpus(num_documents, corpus, options.workers)
    num_bytes = sum(path.stat().st_size for path in (corpus / "documents").iterdir())
    made = round(time.perf_counter() - started, 1)
    tell("corpus", documents=num_documents, megabytes_of_parquet=num_bytes // 10**6, seconds=made)
    seen: dict[str, str] = {}
    for engine in options.engines.split(","):
        with tempfile.TemporaryDirectory(dir=corpus) as out:
            warm_runs = 0 if engine == "local" and options.local_once else options.warm_runs
            words = [sys.executable, __file__, "--workers", options.workers, "--warm-runs", warm_runs]
            words += ["--threads"] if options.threads and engine != "local" else []
            measured = measure([*words, "--build", engine, corpus, out])
        *figures, files = measured.stdout.splitlines()
        for run in map(json.loads, figures):
            for name in ("seconds", "seconds_to_kept_ids"):
                run[name.replace("seconds", "documents_per_second", 1)] = round(num_documents / run[name])
            peak = round(measured.peak_bytes / 1e9, 2)
            tell("dedup", engine=engine, documents=num_documents, host_peak_gigabytes=peak, **run)
        seen[engine] = files
    tell("dedup files", documents=num_documents, engines=list(seen), same_bytes=len(set(seen.values())) == 1)
    if not options.made:
        shutil.rmtree(corpus)


def build(engine: str, corpus: Path, out: Path, options: Any) -> None:
    """The measured process: the stage body, cold and warm; a line of figures each, then the hashes of all files."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    files = ""
    if engine == "cudf":
        os.environ["CUDA_VISIBLE_DEVICES"] = "0"
    for run in ("cold", *["warm"] * options.warm_runs, *["warm, threads"] * options.threads):
        shutil.rmtree(out)
        if run == "warm, threads":
            parallel = importlib.import_module("tasks.parallel")
            parallel.THREADED_BYTES = 1 << 62
        started = time.perf_counter()
        figures, files = once(engine, corpus, out, options.workers, timed=run != "cold")
        print(json.dumps({"run": run, "seconds": round(time.perf_counter() - started, 3), **figures}), flush=True)
    print(files)


def once(engine: str, corpus: Path, out: Path, workers: int, *, timed: bool) -> tuple[dict[str, Any], str]:
    from data_contracts.artifacts import Corpus
    from tasks.curation import deduplication
    from tasks.curation.config import DedupConfig
    from tasks.curation.engines.steps import steps_of
    from tasks.runtime import Runtime
    from tasks.workspace import Workspace

    runtime = Runtime(store=out, workers=workers, engine=engine.removesuffix("-all"), memory_bytes=MEMORY_BYTES)
    watch = Stopwatch(engine)
    restore = watch.put_on(steps_of(runtime)) if timed or engine == "local" else (lambda: None)
    try:
        started = time.perf_counter()
        watch.mark(deduplication, "_write_clusters", lambda: time.perf_counter() - started)
        workspace = Workspace(out, runtime)
        summary = deduplication.remove_duplicates(DedupConfig(), workspace, Corpus(path=corpus, digest=""))
    finally:
        watch.unmark()
        restore()
    workspace.clear_scratch()
    figures = {
        "seconds_to_kept_ids": round(watch.marked, 3),
        "pairs_compared": summary.counts["num_pairs_compared"],
        "removed": summary.counts["num_documents_removed"],
        "phases": {name: round(seconds, 3) for name, seconds in watch.seconds.items()},
    }
    if engine == "cudf":
        figures["gpu_peak_gigabytes"] = gpu_peak_gigabytes()
    if engine == "cudf-all":
        from tasks.curation.engines.device_cluster import gpu_cluster

        cluster = gpu_cluster(None)
        peaks = [cluster.submit(worker, gpu_peak_gigabytes) for worker in range(len(cluster))]
        figures["gpu_peak_gigabytes"] = cluster.results(peaks)
    return figures, " ".join(f"{entry.name}={entry.sha256}" for entry in workspace.files())


def gpu_peak_gigabytes() -> float:
    from tasks.curation.engines.cuda_device import cuda_device

    return round(cuda_device().memory.allocation_counts.peak_bytes / 1e9, 2)


class Stopwatch:
    """Seconds by phase, the GPU waited for at both ends. A phase that stands in another is part of both."""

    def __init__(self, engine: str) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.marked = 0.0
        self._wait: Callable[[], Any] = lambda: None
        self._replaced: list[tuple[Any, str, Any]] = []
        if engine == "cudf":
            import cupy

            self._wait = cupy.cuda.Device().synchronize

    def put_on(self, steps: Any) -> Callable[[], None]:
        """Times the phases of the stage; what is given back ends it."""
        from tasks.curation import deduplication
        from tasks.curation.engines import cuda_device, device_pairs, device_search, device_texts, parted_search
        from tasks.curation.identifiers import IdIndex

        timed = {name: self._timed(name, step) for name, step in steps._asdict().items()}
        replaced = [
            (deduplication, "steps_of", lambda runtime: type(steps)(**timed)),
            *self._functions(deduplication, "find_clusters", "cluster_names", "_write_clusters", "_write", "_proofs"),
            *self._functions(cuda_device.CudaDevice, "read", "order"),
            *self._functions(device_texts.FoldedTexts, "fold", "take"),
            *self._functions(device_search, "digests_of", "band_keys_of"),
            *self._functions(device_search, "candidates"),
            *self._functions(device_search.DeviceSearch, "twins"),
            *self._functions(device_pairs.Judge, "_gram_sets", "_near"),
            *self._functions(parted_search.PartedSearch, "twins", "find_candidates", "lend", "decide"),
            *self._functions(IdIndex, "__init__", "check_unique"),
        ]
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
        for owner, name, function in replaced:
            setattr(owner, name, function)

        def restore() -> None:
            for owner, name, function in before:
                setattr(owner, name, function)

        return restore

    def mark(self, owner: Any, name: str, clock: Callable[[], float]) -> None:
        """Notes the time at which a function is called first."""
        function = getattr(owner, name)

        @wraps(function)
        def noted(*arguments: Any, **options: Any) -> Any:
            self.marked = clock()
            return function(*arguments, **options)

        self._replaced.append((owner, name, function))
        setattr(owner, name, noted)

    def unmark(self) -> None:
        for owner, name, function in self._replaced:
            setattr(owner, name, function)

    def _functions(self, owner: Any, *names: str) -> list[tuple[Any, str, Any]]:
        return [(owner, name, self._timed(name, getattr(owner, name))) for name in names]

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        label = "ids: index" if name == "__init__" else name.strip("_")

        def timed(*arguments: Any, **options: Any) -> Any:
            self._wait()
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._wait()
                self.seconds[label] += time.perf_counter() - started

        return timed


def make_corpus(num_documents: int, folder: Path, workers: int) -> None:
    (folder / "documents").mkdir(parents=True)
    numbers = range(-(-num_documents // DOCUMENTS_PER_SHARD))
    with ProcessPoolExecutor(workers) as pool:
        for _ in pool.map(make_shard, repeat(folder), numbers, repeat(num_documents)):
            pass


def make_shard(folder: Path, number: int, num_documents: int) -> dict[str, list[str]]:
    """Writes a shard; the ids of each family in it, by a name that families over several shards share."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    start = number * DOCUMENTS_PER_SHARD
    stop = min(start + DOCUMENTS_PER_SHARD, num_documents)
    ids = [f"d{i:08d}" for i in range(start, stop)]
    words, together = vocabulary(random.Random(7)), random.Random(f"shared {number // SHARDS_TOGETHER}")
    wanted = [f"shared {n}" for n in range(SHARED_ORIGINALS)]
    known = [{i: text} for i, text in documents(together, words, wanted, [], [])]
    dice, families = random.Random(number), list(known)
    rows = sorted(documents(dice, words, dice.sample(ids, len(ids)), families, known))
    texts = dict(rows)
    empty = {name: [""] * len(rows) for name in ("url", "title")}
    columns = {
        "id": [i for i, _ in rows],
        "text": [text for _, text in rows],
        "source": [f"bench/{i}" for i, _ in rows],
        "meta": ["{}"] * len(rows),
    }
    table = pa.table({**columns, **empty}).select(row_schema(pa).names).cast(row_schema(pa))
    path = folder / "documents" / f"train-{number:05d}.parquet"
    pq.write_table(table, path, row_group_size=8192, compression="zstd", compression_level=1)
    in_families = ((next(iter(family)), [i for i in family if i in texts]) for family in families)
    return {f"{number // SHARDS_TOGETHER} {first}" if first not in texts else first: ids for first, ids in in_families}


if __name__ == "__main__":
    main()
