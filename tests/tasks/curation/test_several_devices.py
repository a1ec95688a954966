"""Dedup on several devices, each in a process of its own: all bytes are those of the local engine."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import time
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from data_contracts.errors import MissingPackage, WorkerLost
from emulated_gpu import emulated_gpu
from tasks.curation import deduplication, splitting
from tasks.curation.config import DedupConfig, FuzzyConfig, SplitConfig
from tasks.curation.engines import device_cluster
from tasks.curation.engines.cuda_device import num_gpus
from tasks.curation.engines.device_cluster import DeviceCluster, gpu_cluster
from tasks.curation.engines.steps import steps_on_several
from tasks.stages import DEDUP, SPLIT


@pytest.fixture(scope="module", params=["cores", pytest.param("gpus", marks=pytest.mark.gpu)])
def cluster(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[DeviceCluster]:
    if request.param == "gpus":
        pytest.importorskip("dask_cuda", reason="the extra gpu is not installed")
        if num_gpus() < 2:
            pytest.skip("one GPU")
        yield gpu_cluster(None)
        return
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the CUDA kernels with")
    folder = tmp_path_factory.mktemp("kernels")
    emulated_gpu(folder)
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as workers,
        Client(workers) as client,
    ):
        yield DeviceCluster(client, partial(emulated_gpu, folder))


@pytest.fixture
def on_both(run, cluster, monkeypatch: pytest.MonkeyPatch):
    """Runs dedup, or another stage, on the local engine and on the devices; the counts that both have."""

    def check(corpus, config: DedupConfig | SplitConfig | None = None, stage=DEDUP):
        config = config or DedupConfig()
        local = run(stage, config, corpus=corpus)
        with monkeypatch.context() as patch:
            for module in (deduplication, splitting):
                patch.setattr(module, "steps_of", lambda runtime: steps_on_several(cluster))
            other = run(stage, config, corpus=corpus)
        assert other.digest == local.digest
        assert other.manifest.summary == local.manifest.summary
        return local.manifest.summary.counts

    return check


def families(prose, number: int) -> list[tuple[str, str]]:
    """Originals with copies at similarities on both sides of the threshold, far from each other."""
    generator, rows = random.Random(11), []
    for family in range(number):
        text = prose(family, 150)
        for copy in range(generator.randint(1, 5)):
            edits = list(text)
            for place in generator.sample(range(len(text)), generator.randint(0, 7) if copy else 0):
                edits[place] = generator.choice("亜ｱ…ガ")
            rows.append((f"{family:03d}-{copy}", "".join(edits)))
    return generator.sample(rows, len(rows))


@pytest.mark.parametrize(
    "config",
    [
        DedupConfig(),
        DedupConfig(exact=False),
        DedupConfig(fuzzy=None),
        DedupConfig(fuzzy=FuzzyConfig(ngram_characters=3, permutations=9, bands=3, rows=3, jaccard_threshold=0.7)),
    ],
    ids=["default", "near only", "exact only", "an odd number of bands"],
)
def test_every_byte_is_that_of_the_local_engine(seal_corpus, prose, on_both, config) -> None:
    rows = families(prose, 40)
    shards = {"train-00000": rows[:30], "train-00001": [], "train-00002": rows[30:70], "validation-00000": rows[70:]}
    assert on_both(seal_corpus(shards), config)["num_documents_removed"] > (15 if config.fuzzy else 5)


def test_split_keeps_together_what_lies_on_two_devices(seal_corpus, prose, on_both) -> None:
    rows = families(prose, 40)
    corpus = seal_corpus({"train-00000": rows[:50], "train-00001": rows[50:]})
    on_both(corpus, SplitConfig(validation_share=0.3), SPLIT)


def test_buckets_of_more_than_64_documents_are_gathered_from_all_devices(seal_corpus, prose, on_both) -> None:
    template = prose(1, 300)
    rows = [(f"{n:03d}", template + prose(100 + n, 20 + n % 3 * 20)) for n in range(90)]
    counts = on_both(seal_corpus({"train-00000": rows[:40], "train-00001": rows[40:]}))
    assert 0 < counts["num_pairs_compared"] < 90 * 89 // 2


@pytest.mark.parametrize("texts", [[], [""], ["", "\u3000", "終"]], ids=["none", "an empty one", "fewer than devices"])
def test_devices_without_documents_have_nothing_to_do(seal_corpus, on_both, texts) -> None:
    on_both(seal_corpus({"train-00000": [(f"{n}", text) for n, text in enumerate(texts)]}))


def test_references_lie_behind_the_corpus_on_any_device(seal_corpus, prose, on_both, tmp_path) -> None:
    rows = families(prose, 20)
    for number, row in enumerate((rows[0], rows[25])):
        (tmp_path / f"kept-{number}.jsonl").write_text(f'{{"id": "k", "text": "{row[1]}"}}\n', encoding="utf-8")
    (tmp_path / "exam.jsonl").write_text(f'{{"id": "q", "text": "{rows[-1][1][20:80]}"}}\n', encoding="utf-8")
    against = [
        {"kind": "kept", "name": "old", "path": tmp_path / "kept-0.jsonl"},
        {"kind": "kept", "name": "older", "path": tmp_path / "kept-1.jsonl"},
        {"kind": "evaluation", "name": "exam", "path": tmp_path / "exam.jsonl"},
    ]
    corpus = seal_corpus({"train-00000": rows[:20], "train-00001": rows[20:]})
    counts = on_both(corpus, DedupConfig.model_validate({"against": against}))
    assert counts["removed_by_known_duplicate"] and counts["removed_by_contamination"]


def test_hard_texts_pass(seal_corpus, hard_texts, on_both) -> None:
    rows = [(name, text[:20_000]) for name, text in hard_texts.items()]
    on_both(seal_corpus({"train-00000": rows[::2], "train-00001": rows[1::2]}))


def test_a_worker_that_dies_is_a_clear_error_and_no_endless_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import Client, LocalCluster

    monkeypatch.setattr(device_cluster, "CHECK_SECONDS", 0.5)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as workers,
        Client(workers) as client,
    ):
        two = DeviceCluster(client, lambda: None)
        known = two.submit(1, np.arange, 3)
        process, _ = two.submit(1, os.getpid), two.results([known])
        os.kill(two.results([process])[0], 9)
        while len(client.nthreads()) == 2 and set(client.nthreads()) == set(two._workers):
            time.sleep(0.05)
        with pytest.raises(WorkerLost, match="a worker process died"):
            two.results([two.submit(1, np.sum, known)])


@pytest.mark.skipif(importlib.util.find_spec("dask_cuda") is not None, reason="dask-cuda is installed")
def test_without_dask_cuda_the_engine_names_the_command() -> None:
    with pytest.raises(MissingPackage, match=r"(?s)dask_cuda.*tsuzuki\[gpu\]"):
        gpu_cluster(None)
