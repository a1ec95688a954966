"""The stage dedup on one GPU beside NeMo Curator's own workflows on it, over the same documents.

    python tests/benchmarks/dedup_curator.py --documents 1000000 --curator-python .venv-curator/bin/python

Documents are those of dedup_gpu.py. Curator removes exact duplicates, then near ones, and writes what stays, in two
settings: `sketch as ours` (character 5-grams, 32 bands of 8 rows) over texts already in our comparison form, which
costs it nothing here, and `defaults` (24-grams, 20 bands of 13) over the texts as they are. Each run is a process of
its own, the start of Ray included.

Recall is over all pairs of the planted families that are at least 0.8 similar (character 5-grams of the comparison
form, in plain Python): `recall` counts those that share a cluster, `recall_of_candidates` those that met in a bucket or
are equal. Precision is over all documents that a cluster holds besides its first: the share with such a partner in
their cluster. `decided` is what would come of Curator's candidates if they were decided by exact Jaccard similarity and
the survivors chosen as we do. Agreement is of sets, with ours: what both hold, over what either holds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations, pairwise, repeat
from pathlib import Path
from typing import Any

from dedup import DOCUMENTS_PER_SHARD, THRESHOLD, grams
from dedup_gpu import MEMORY_BYTES, make_shard
from measuring import measure, tell

PEER = Path(__file__).parent / "peers" / "curator_dedup.py"
SETTINGS = {
    "sketch as ours": (
        "folded",
        {"char_ngrams": 5, "num_bands": 32, "minhashes_per_band": 8, "bands_per_iteration": 32},
    ),
    "defaults": ("documents", {}),
}
Pair = tuple[str, str]
Clusters = dict[str, str]
"""{id: name of its cluster} of the documents that share theirs."""

forms: dict[str, str] = {}
"""Comparison forms by id, which the processes of a pool inherit."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--engine", default="cudf", help="our engine")
    parser.add_argument("--warm-runs", type=int, default=2)
    parser.add_argument("--curator-python", default=sys.executable, help="interpreter with NeMo Curator and RAPIDS")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="names of Curator's settings, with commas")
    parser.add_argument("--corpus", type=Path, help="folder of the documents, made there if it is absent")
    parser.add_argument("--only-corpus", action="store_true", help="make the documents and end")
    parser.add_argument("--build", nargs=2, type=Path, help=argparse.SUPPRESS)  # the measured process itself
    options = parser.parse_args()
    if options.build:
        build(*options.build, options)
        return
    with tempfile.TemporaryDirectory(prefix="tsuzuki-bench-") as folder:
        corpus = options.corpus or Path(folder, "corpus")
        if not (corpus / "families.json").exists():
            make_corpus(options.documents, corpus, options.workers)
        if not options.only_corpus:
            compare(corpus, Path(folder), options)


def compare(corpus: Path, folder: Path, options: Any) -> None:
    forms.update(read_texts(corpus / "folded"))
    truth = similar_pairs(
        (p for family in json.loads((corpus / "families.json").read_text()) for p in combinations(family, 2)), options
    )
    kept, clusters = ours(corpus, folder / "ours", options)
    tell("quality", engine="tsuzuki", true_pairs=len(truth), kept=len(kept), **judged(clusters, truth, options))
    for name in options.settings.split(","):
        documents, settings = SETTINGS[name]
        words = [options.curator_python, PEER, corpus / documents, folder / name, options.workers, json.dumps(settings)]
        figures = json.loads(measure(words).stdout.splitlines()[-1])
        tell("dedup", engine="curator", settings=name, **speed(figures.pop("seconds")), **figures)
        report(corpus / documents, folder / name, kept, clusters, truth, options)


def report(texts: Path, output: Path, kept: set[str], ours: Clusters, truth: list[Pair], options: Any) -> None:
    found = json.loads((output / "found.json").read_text())
    theirs, twin = ids_in(output / "kept"), twins(read_texts(texts), found["exact"])
    components = united([*twin.items(), *chains(found["clusters"])])
    candidates = {tuple(sorted(p)) for bucket in found["buckets"] for p in combinations(bucket, 2)}
    stand_ins = [tuple(sorted(twin.get(i, i) for i in pair)) for pair in truth]
    met = sum(pair in candidates or pair[0] == pair[1] for pair in stand_ins) / max(1, len(truth))
    figures = {"kept": len(theirs), "candidates": len(candidates), "recall_of_candidates": round(met, 5)}
    agreement = {"kept": agree(kept, theirs), "clusters": agree(groups(ours), groups(components))}
    decided = united([*twin.items(), *similar_pairs(candidates, options)])
    survivors = forms.keys() - (decided.keys() - set(map(survivor, groups(decided))))
    if_decided = {"kept": agree(kept, survivors), "clusters": agree(groups(ours), groups(decided))}
    quality = judged(components, truth, options)
    tell(
        "quality", engine="curator", settings=output.name, **figures, **quality, agreement=agreement, decided=if_decided
    )


def ours(corpus: Path, out: Path, options: Any) -> tuple[set[str], Clusters]:
    """The ids that stay and the clusters of the stage, whose speed is told."""
    import pyarrow.parquet as pq

    words = ["--engine", options.engine, "--workers", options.workers, "--warm-runs", options.warm_runs]
    measured = measure([sys.executable, __file__, *words, "--build", corpus, out])
    for run in map(json.loads, measured.stdout.splitlines()):
        tell("dedup", engine=options.engine, run=run["run"], **speed(run["seconds"]))
    table = pq.read_table(out / "clusters.parquet").to_pydict()
    return ids_in(out / "documents"), dict(zip(table["id"], table["cluster"], strict=True))


def build(corpus: Path, out: Path, options: Any) -> None:
    """The measured process of ours: the stage body, cold and warm."""
    import shutil

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    started = time.perf_counter()
    from data_contracts.artifacts import Corpus
    from tasks.curation.config import DedupConfig
    from tasks.curation.deduplication import remove_duplicates
    from tasks.runtime import Runtime
    from tasks.workspace import Workspace

    for run in ("cold", *["warm"] * options.warm_runs):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        runtime = Runtime(store=out, workers=options.workers, engine=options.engine, memory_bytes=MEMORY_BYTES)
        remove_duplicates(DedupConfig(), Workspace(out, runtime), Corpus(path=corpus, digest=""))
        print(json.dumps({"run": run, "seconds": round(time.perf_counter() - started, 3)}), flush=True)
        started = time.perf_counter()


def speed(seconds: float) -> dict[str, float]:
    return {"seconds": round(seconds, 2), "documents_per_second": round(len(forms) / seconds)}


def judged(clusters: Clusters, truth: list[Pair], options: Any) -> dict[str, float]:
    hits = sum(first in clusters and clusters[first] == clusters.get(second) for first, second in truth)
    members = list(map(sorted, groups(clusters)))
    alike = {i for pair in similar_pairs((p for ids in members for p in combinations(ids, 2)), options) for i in pair}
    besides = [i for ids in members for i in ids[1:]]
    return {
        "recall": round(hits / max(1, len(truth)), 5),
        "precision": round(sum(i in alike for i in besides) / max(1, len(besides)), 5),
    }


def similar_pairs(pairs: Iterable[Pair], options: Any) -> list[Pair]:
    """Those that are at least as similar as a duplicate."""
    chosen = list(pairs)
    portions = [chosen[start : start + 2000] for start in range(0, len(chosen), 2000)]
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("fork")) as pool:
        return [pair for portion in pool.map(similar, portions) for pair in portion]


def similar(pairs: Sequence[Pair]) -> list[Pair]:
    sets = {i: grams(forms[i]) for pair in pairs for i in pair}
    return [(a, b) for a, b in pairs if len(sets[a] & sets[b]) >= THRESHOLD * len(sets[a] | sets[b])]


def twins(texts: dict[str, str], removed: Iterable[str]) -> dict[str, str]:
    """The document that stands for each exact duplicate: Curator writes only which ones go."""
    gone = set(removed)
    stays = {text: i for i, text in texts.items() if i not in gone}
    return {i: stays[texts[i]] for i in gone}


def united(pairs: Iterable[Pair]) -> Clusters:
    parents: dict[str, str] = {}

    def root(i: str) -> str:
        while parents.setdefault(i, i) != i:
            parents[i] = i = parents[parents[i]]
        return i

    for first, second in pairs:
        parents[root(first)] = root(second)
    return {i: root(i) for i in list(parents)}


def chains(clusters: dict[str, Any]) -> list[Pair]:
    members = defaultdict(list)
    for i, cluster in clusters.items():
        members[cluster].append(i)
    return [pair for ids in members.values() for pair in pairwise(ids)]


def groups(clusters: Clusters) -> set[frozenset[str]]:
    members = defaultdict(set)
    for i, cluster in clusters.items():
        members[cluster].add(i)
    return {frozenset(ids) for ids in members.values() if len(ids) > 1}


def survivor(ids: Iterable[str]) -> str:
    """As SURVIVOR_RULE of tasks/curation/deduplication.py says."""
    return min(ids, key=lambda i: (-len(forms[i]), i))


def agree(ours: set[Any], theirs: Iterable[Any]) -> float:
    others = set(theirs)
    return round(len(ours & others) / max(1, len(ours | others)), 6)


def ids_in(folder: Path) -> set[str]:
    import pyarrow.parquet as pq

    files = sorted(folder.rglob("*.parquet"))
    return {i for file in files for i in pq.read_table(file, columns=["id"])["id"].to_pylist()}


def read_texts(folder: Path) -> dict[str, str]:
    import pyarrow.parquet as pq

    tables = [pq.read_table(file, columns=["id", "text"]) for file in sorted(folder.iterdir())]
    return {i: t for table in tables for i, t in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)}


def make_corpus(num_documents: int, folder: Path, workers: int) -> None:
    """`documents/` as dedup_gpu.py makes them, `folded/` with their comparison forms, and the ids of all families."""
    started = time.perf_counter()
    for name in ("documents", "folded"):
        (folder / name).mkdir(parents=True)
    numbers = range(-(-num_documents // DOCUMENTS_PER_SHARD))
    families = defaultdict(list)
    with ProcessPoolExecutor(workers) as pool:
        for made in pool.map(make_both, repeat(folder), numbers, repeat(num_documents)):
            for name, ids in made.items():
                families[name] += ids
    shared = [ids for ids in families.values() if len(ids) > 1]
    (folder / "families.json").write_text(json.dumps(shared))
    tell("corpus", documents=num_documents, families=len(shared), seconds=round(time.perf_counter() - started, 1))


def make_both(folder: Path, number: int, num_documents: int) -> dict[str, list[str]]:
    import unicodedata

    import pyarrow as pa
    import pyarrow.parquet as pq

    families = make_shard(folder, number, num_documents)
    table = pq.read_table(folder / "documents" / f"train-{number:05d}.parquet", columns=["id", "text"])
    folded = ["".join(unicodedata.normalize("NFKC", text).lower().split()) for text in table["text"].to_pylist()]
    table = table.set_column(1, "text", pa.array(folded, pa.string()))
    pq.write_table(table, folder / "folded" / f"train-{number:05d}.parquet", row_group_size=8192, compression="zstd")
    return families


if __name__ == "__main__":
    main()
