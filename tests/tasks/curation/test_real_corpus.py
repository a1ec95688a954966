"""The curation half on 3,762 real documents, where the shared corpus lies beside the checkout."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.curation.candidates import compare_candidates, read_edges
from tasks.curation.config import DedupConfig, FilterConfig, FuzzyConfig, SplitConfig
from tasks.curation.folding import fold
from tasks.curation.minhash import gram_sets, jaccards
from tasks.curation.scanning import fingerprint
from tasks.curation.spool import Spool, SpoolWriter
from tasks.runtime import Runtime
from tasks.stages import DEDUP, FILTER, SPLIT

CORPUS = Path(__file__).parents[4] / "shared" / "corpus" / "ja" / "ja_wiki"

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no corpus at {CORPUS}"),
]


@pytest.fixture(scope="module")
def documents() -> dict[str, list[tuple[str, str]]]:
    shards = {}
    for path in sorted(CORPUS.glob("*.jsonl.gz")):
        split, _, number = path.name.split(".")[0].partition("_")
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        shards[f"{split}-{int(number):05d}"] = [(row["meta"]["id"], row["text"]) for row in rows]
    return shards


def test_removal_rates_are_the_stated_ones(seal_raw, run, kept_ids, documents) -> None:
    clean = run(FILTER, FilterConfig(), workers=2, raw=seal_raw(documents))
    counts = clean.manifest.summary.counts
    assert counts["num_documents_in"] == 3762
    # A quarter are help pages left in English; the rest is Japanese and stays.
    assert 0.23 < counts["removed_by_language"] / 3762 < 0.28
    assert counts["removed_by_hiragana_ratio"] < 0.03 * 3762
    assert counts["removed_by_length"] + counts["removed_by_repetition"] + counts["removed_by_duplicate_lines"] < 50
    assert counts["removed_by_symbol_ratio"] < 5
    unique = run(DEDUP, DedupConfig(), workers=2, corpus=clean)
    assert 0.04 < unique.manifest.summary.counts["num_documents_removed"] / len(kept_ids(clean)) < 0.07
    split = run(SPLIT, SplitConfig(), workers=2, corpus=unique)
    share = len(kept_ids(split, "validation")) / len(kept_ids(split))
    assert 0.035 < share < 0.065
    assert split.manifest.summary.proofs["leak"]["num_pairs_across"] == 0


def test_pairs_are_those_of_brute_force_over_all_seven_million(documents, tmp_path) -> None:
    texts = pa.array([text for rows in documents.values() for _, text in rows])
    size, config = len(texts), FuzzyConfig()
    everything = np.stack(np.triu_indices(size, 1), axis=1)
    scores = jaccards(*gram_sets(fold(texts), 5), everything, 0.8)
    near = {tuple(pair) for pair in everything[scores >= 0.8].tolist()}
    writer = SpoolWriter(tmp_path, "all")
    writer.add(pa.array([str(n) for n in range(size)]), texts, prints := fingerprint(fold(texts), config))
    writer.close()
    spool, runtime = Spool.of(tmp_path, writer.parts), Runtime(store=tmp_path, workers=2)
    compared = compare_candidates(spool, np.arange(size), prints.lengths, config, runtime, tmp_path / "candidates")
    found = [(edge["first"], edge["second"]) for edges in read_edges(compared.edges) for edge in edges]
    assert len(near) > 300
    assert set(found) <= near
    assert len(found) >= 0.99 * len(near)
