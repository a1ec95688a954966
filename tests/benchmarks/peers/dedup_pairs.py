"""Near-duplicates by datasketch or gaoya: `dedup_pairs.py PEER CORPUS OUTPUT WORKERS`, in the peers' environment.

Signatures are made by as many processes (datasketch) or threads (gaoya) as there are workers. Candidates are decided by
exact Jaccard similarity of character 5-grams and united; OUTPUT is {id: cluster} of the documents that share theirs.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable
from multiprocessing import Pool
from pathlib import Path

BANDS, ROWS, NGRAM, THRESHOLD = 32, 8, 5, 0.8
ESTIMATE = 0.7
"""gaoya drops candidates below this estimate; at 0.8 its standard deviation is 0.025."""


def main() -> None:
    peer, corpus, output, workers = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    os.environ["RAYON_NUM_THREADS"] = str(workers)
    ids, texts = read(corpus, workers)
    pairs = datasketch_pairs(texts, workers) if peer == "datasketch" else gaoya_pairs(texts)
    parents = list(range(len(ids)))
    compared = 0
    sets: dict[int, set[str]] = {}
    for first, second in pairs:
        compared += 1
        one, other = (sets.setdefault(n, grams(texts[n])) for n in (first, second))
        common = len(one & other)
        if common >= THRESHOLD * (len(one) + len(other) - common):
            a, b = root(parents, first), root(parents, second)
            parents[max(a, b)] = min(a, b)
    labels = [root(parents, n) for n in range(len(ids))]
    sizes = Counter(labels)
    output.write_text(json.dumps({i: ids[label] for i, label in zip(ids, labels, strict=True) if sizes[label] > 1}))
    print(json.dumps({"pairs_compared": compared}))


def read(corpus: Path, workers: int) -> tuple[list[str], list[str]]:
    """Ids and comparison forms."""
    import pyarrow.parquet as pq

    ids, texts = [], []
    for shard in sorted((corpus / "documents").glob("*.parquet")):
        table = pq.read_table(shard, columns=["id", "text"])
        ids += table["id"].to_pylist()
        texts += table["text"].to_pylist()
    with Pool(workers) as pool:
        return ids, pool.map(fold, texts, chunksize=1024)


def fold(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).lower().split())


def grams(text: str) -> set[str]:
    return {text[i : i + NGRAM] for i in range(max(1, len(text) - NGRAM + 1))}


def root(parents: list[int], document: int) -> int:
    while parents[document] != document:
        parents[document] = parents[parents[document]]
        document = parents[document]
    return document


def datasketch_pairs(texts: list[str], workers: int) -> Iterable[tuple[int, int]]:
    from datasketch import MinHashLSH

    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    with Pool(workers) as pool:
        for number, sketch in enumerate(pool.imap(sketch_of, texts, chunksize=256)):
            # Asked before it is put in, each pair is met once.
            yield from ((other, number) for other in index.query(sketch))
            index.insert(number, sketch)


def sketch_of(text: str) -> object:
    from datasketch import MinHash

    sketch = MinHash(num_perm=BANDS * ROWS)
    sketch.update_batch([gram.encode() for gram in grams(text)])
    return sketch


def gaoya_pairs(texts: list[str]) -> Iterable[tuple[int, int]]:
    from gaoya.minhash import MinHashStringIndex

    index = MinHashStringIndex(
        hash_size=32,
        jaccard_threshold=ESTIMATE,
        num_bands=BANDS,
        band_size=ROWS,
        analyzer="char",
        ngram_range=(NGRAM, NGRAM),
        id_container="smallvec",
    )
    index.par_bulk_insert_docs(list(range(len(texts))), texts)
    for number, found in enumerate(index.par_bulk_query(texts)):
        yield from ((number, other) for other in found if number < other)


if __name__ == "__main__":
    main()
