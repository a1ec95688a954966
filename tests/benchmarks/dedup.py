"""The stage dedup against datasketch 2.0.0 and gaoya 0.2.2, end to end, exact decision included.

    python tests/benchmarks/dedup.py --runs 3 --workers 2 --peer-python .venv-bench/bin/python
    python tests/benchmarks/dedup.py --scaling 10000,100000,1000000

All read the same parquet shards of documents of about 1 kB and fold them to the same comparison form. Ours is the stage
body: it writes the kept documents, the ledger and the clusters. The peers find candidates at the same 32 bands of 8
rows, decide them by the exact Jaccard similarity of the same character 5-grams, unite them, and write the cluster of
each document, no text. Every run is a process of its own; memory is that of all its processes, shared pages once.

Recall is over all pairs that are at least 0.8 similar within the planted families, by plain Python. Precision is over
all documents that a cluster holds besides its first: the share with such a partner in their cluster.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from measuring import measure, medians, tell

PEERS = Path(__file__).parent / "peers" / "dedup_pairs.py"
DOCUMENTS_PER_SHARD = 50_000
WORDS_PER_DOCUMENT = 140
THRESHOLD = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peer-python", type=Path, help="interpreter with datasketch and gaoya")
    parser.add_argument("--scaling", help="numbers of documents; ours alone, once each")
    parser.add_argument("--folder", type=Path, help="where corpora and outputs go; none: a temporary one")
    parser.add_argument("--build", nargs=2, type=Path, help=argparse.SUPPRESS)  # the measured process itself
    options = parser.parse_args()
    if options.build:
        build(*options.build, options.workers)
        return
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="tsuzuki-bench-") as folder:
        make_corpus(200, Path(folder, "warm"))
        ours(Path(folder, "warm"), options)  # kernels are compiled once an installation
        for number in map(int, options.scaling.split(",") if options.scaling else ()):
            make_corpus(number, Path(folder, str(number)))
            tell("dedup scaling", documents=number, workers=options.workers, **ours(Path(folder, str(number)), options))
        if not options.scaling:
            compare(Path(folder, "corpus"), options)


def compare(corpus: Path, options: Any) -> None:
    families = make_corpus(options.documents, corpus)
    texts = {i: text for family in families for i, text in family.items()}
    figures = {"tsuzuki": medians(options.runs, lambda: ours(corpus, options))}
    quality = {"tsuzuki": judged(families, texts, corpus / "tsuzuki.json")}
    for peer in ("gaoya", "datasketch") if options.peer_python else ():
        figures[peer] = medians(options.runs, lambda peer=peer: theirs(corpus, peer, options))
        quality[peer] = judged(families, texts, corpus / f"{peer}.json")
    for name, measured in figures.items():
        ratio = round(measured["seconds"] / figures["tsuzuki"]["seconds"], 2)
        tell("dedup", engine=name, documents=options.documents, **measured, times_ours=ratio, **quality[name])


def ours(corpus: Path, options: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=corpus) as out:
        words = [sys.executable, __file__, "--workers", options.workers, "--build", corpus, Path(out)]
        measured = measure(words)
        return {**figures_of(measured, corpus), **json.loads(measured.stdout)}


def theirs(corpus: Path, peer: str, options: Any) -> dict[str, float]:
    words = [options.peer_python, PEERS, peer, corpus, corpus / f"{peer}.json", options.workers]
    measured = measure(words)
    return {**figures_of(measured, corpus), **json.loads(measured.stdout)}


def figures_of(measured: Any, corpus: Path) -> dict[str, float]:
    documents = int((corpus / "size").read_text())
    return {
        "seconds": round(measured.seconds, 2),
        "documents_per_second": round(documents / measured.seconds),
        "peak_megabytes": round(measured.peak_bytes / 1e6),
    }


def build(corpus: Path, out: Path, workers: int) -> None:
    """The measured process of ours: the stage body, and the clusters as the peers write them."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import pyarrow.parquet as pq

    from data_contracts.artifacts import Corpus
    from tasks.curation.config import DedupConfig
    from tasks.curation.deduplication import remove_duplicates
    from tasks.runtime import Runtime
    from tasks.workspace import Workspace

    workspace = Workspace(out, Runtime(store=out, workers=workers))
    summary = remove_duplicates(DedupConfig(), workspace, Corpus(path=corpus, digest=""))
    clusters = pq.read_table(out / "clusters.parquet").to_pydict()
    (corpus / "tsuzuki.json").write_text(json.dumps(dict(zip(clusters["id"], clusters["cluster"], strict=True))))
    print(json.dumps({"pairs_compared": summary.counts["num_pairs_compared"]}))


def judged(families: list[dict[str, str]], texts: dict[str, str], found: Path) -> dict[str, float]:
    """Recall of true pairs, precision of removals. found: {id: cluster} of the documents that share theirs."""
    sets = {i: grams(text) for i, text in texts.items()}
    cluster_of = json.loads(found.read_text())
    true_pairs = [p for family in families for p in combinations(family, 2) if similarity(sets, *p) >= THRESHOLD]
    hits = sum(first in cluster_of and cluster_of[first] == cluster_of.get(second) for first, second in true_pairs)
    clusters = defaultdict(list)
    for i, cluster in cluster_of.items():
        clusters[cluster].append(i)
    removed = [(i, ids) for ids in clusters.values() for i in ids[1:]]
    right = sum(any(j != i and similarity(sets, i, j) >= THRESHOLD for j in ids) for i, ids in removed)
    return {
        "true_pairs": len(true_pairs),
        "recall": round(hits / max(1, len(true_pairs)), 5),
        "precision": round(right / max(1, len(removed)), 5),
    }


def grams(text: str) -> set[str]:
    """As tasks/curation/folding.py and minhash.py define them, in plain Python."""
    import unicodedata

    text = "".join(unicodedata.normalize("NFKC", text).lower().split())
    return {text[i : i + 5] for i in range(max(1, len(text) - 4))}


def similarity(sets: dict[str, set[str]], first: str, second: str) -> float:
    # A document outside of every family is like no other.
    one, other = sets.get(first, {first}), sets.get(second, {second})
    return len(one & other) / len(one | other)


def make_corpus(num_documents: int, folder: Path, seed: int = 7) -> list[dict[str, str]]:
    """Shards of documents of about 340 characters; the families of similar ones, as {id: text}.

    A sixth of the documents belong to families: an original of this or an earlier shard, and copies with other widths
    and spaces or with edits that leave a Jaccard similarity between 0.6 and 1.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "documents").mkdir(parents=True)
    dice, families, known = random.Random(seed), [], []
    words = vocabulary(dice)
    for shard, start in enumerate(range(0, num_documents, DOCUMENTS_PER_SHARD)):
        size = min(DOCUMENTS_PER_SHARD, num_documents - start)
        ids = [f"d{number:08d}" for number in dice.sample(range(start, start + size), size)]
        rows = dict(documents(dice, words, ids, families, known))
        table = pa.table(
            {
                "id": sorted(rows),
                "text": [rows[i] for i in sorted(rows)],
                "source": [f"bench/{i}" for i in sorted(rows)],
                "url": [""] * size,
                "title": [""] * size,
                "meta": ["{}"] * size,
            },
            schema=row_schema(pa),
        )
        path = folder / "documents" / f"train-{shard:05d}.parquet"
        pq.write_table(table, path, row_group_size=8192, compression="zstd", compression_level=3)
    (folder / "size").write_text(str(num_documents))
    return [family for family in families if len(family) > 1]


def row_schema(pa: Any) -> Any:
    return pa.schema(
        [pa.field(n, pa.string(), nullable=False) for n in ("id", "text", "source", "url", "title", "meta")]
    )


def documents(
    dice: random.Random, words: list[str], ids: list[str], families: list[dict[str, str]], known: list[dict[str, str]]
) -> Iterator[tuple[str, str]]:
    """One text for each id. known: families that later documents may join."""
    weights = [1 / (rank + 20) for rank in range(len(words))]
    while ids:
        if known and dice.random() < 1 / 9:
            family = dice.choice(known)
            text = variant(dice, next(iter(family.values())))
        else:
            chosen = dice.choices(words, weights, k=WORDS_PER_DOCUMENT)
            text = "".join(word + ("。\n" if n % 14 == 13 else "") for n, word in enumerate(chosen))
            family = {}
            if dice.random() < 1 / 18:
                families.append(family)
                known.append(family)
        identifier = ids.pop()
        family[identifier] = text
        yield identifier, text


def variant(dice: random.Random, text: str) -> str:
    if dice.random() < 0.3:
        wide = text.translate(str.maketrans("。", "｡"))
        return dice.choice((text, wide, text.replace("\n", "\u3000\n"), wide + "\n"))
    kept = dice.uniform(0.6, 1.0)
    # An edit in the middle of nowhere changes five n-grams of each text.
    num_edits = max(1, round(len(text) * (1 - kept) / (5 * (1 + kept))))
    characters = list(text)
    for place in dice.sample(range(len(text)), num_edits):
        characters[place] = chr(dice.randrange(0x4E00, 0x9000))
    return "".join(characters)


def vocabulary(dice: random.Random, size: int = 20_000) -> list[str]:
    kana, kanji = range(0x3041, 0x3097), range(0x4E00, 0x5A00)
    ranges = [kana, kana, kanji, kanji, range(0x30A1, 0x30FB)]
    return ["".join(map(chr, dice.choices(dice.choice(ranges), k=dice.randint(1, 4)))) for _ in range(size)]


if __name__ == "__main__":
    main()
