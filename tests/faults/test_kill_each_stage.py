"""kill -9 in the middle of each stage, then the same command: the digests of an undisturbed run."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from faulting import Recovery, assert_nothing_is_left, at_work, descendant, finish, kill_flow, wait_until

from command_line import MICRO, Tsuzuki, digests
from tasks.acquire import sample
from tasks.runtime import Runtime
from tasks.stages import STAGES

CORPUS_BYTES = 20 << 20
"""More than `map_jobs` reads without worker processes."""


@pytest.mark.faults
def test_a_run_killed_in_every_stage_ends_like_an_undisturbed_one(tmp_path, fault_log):
    undisturbed, store = tmp_path / "undisturbed", tmp_path / "store"
    Tsuzuki().stages("demo", "--config", MICRO, "--store", undisturbed)
    with ExitStack() as tried:
        recoveries: list[Recovery] = []
        for stage in STAGES:
            recovery = tried.enter_context(fault_log.trying("SIGKILL of `tsuzuki run` in every stage of one pipeline"))
            run = Tsuzuki().start("run", "demo", "--config", MICRO, "--store", store)
            wait_until(lambda stage=stage: at_work(stage, store), run, pause=0.002)  # the shortest takes 60 ms
            for earlier in recoveries[-1:]:
                earlier.end()  # the run has come as far as before, and further
            kill_flow(run)
            recovery.begin()
            recoveries.append(recovery)
            assert stage not in digests(store)
        lines = Tsuzuki().stages("demo", "--config", MICRO, "--store", store)
        assert lines["deliver"]["status"] == "built"
        assert digests(store) == digests(undisturbed)
        assert_nothing_is_left(store)


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore")  # of prefect, imported by this process
def test_a_killed_corpus_worker_flow_and_training_end_like_an_undisturbed_run(tmp_path, fault_log):
    corpus, undisturbed, store = tmp_path / "corpus", tmp_path / "undisturbed", tmp_path / "store"
    write_corpus(corpus)
    with (
        ThreadPoolExecutor(1) as beside,
        fault_log.trying("SIGKILL of a corpus worker, then of `tsuzuki run`") as first,
        fault_log.trying("SIGKILL of a training under `tsuzuki run`") as second,
    ):
        run = start_to_pretrain(corpus, store)
        wait_until(lambda: descendant(run, "spawn_main"), run).kill()
        wait_until(lambda: not descendant(run, "spawn_main"), run)
        kill_flow(run)  # it waits to try again
        first.begin()
        assert not digests(store)
        reference = beside.submit(call_to_pretrain, corpus, undisturbed)
        run = start_to_pretrain(corpus, store)
        wait_until(lambda: at_work("pretrain", store), run, pause=0.01)
        first.end()
        wait_until(lambda: descendant(run, "tasks.worker"), run).kill()
        second.begin()
        finish(run)  # it tries again by itself
        second.end()
        reference.result()
        assert "pretrain" in digests(store)
        assert digests(store) == digests(undisturbed)
        assert_nothing_is_left(store)


def write_corpus(folder: Path) -> None:
    """The sample, spread over two files, with lines so long that they are read by worker processes."""
    folder.mkdir()
    documents = list(sample.generate(240, seed=7).documents())
    filler = "続" * (CORPUS_BYTES // 3 // len(documents))
    for half in (0, 1):
        rows = ({"id": d.id, "text": d.text, "filler": filler} for d in documents[half::2])
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / f"{half}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def start_to_pretrain(corpus: Path, store: Path) -> subprocess.Popen[str]:
    source = f"source={{kind: local, path: '{corpus}'}}"
    words = ("run", "demo", "--config", MICRO, "--set", source, "--store", store, "--until", "pretrain")
    return Tsuzuki().start(*words, TSUZUKI_WORKERS="2")


def call_to_pretrain(corpus: Path, store: Path) -> None:
    """The same by plain function calls: no Prefect, no worker processes for shards."""
    from flows.configuration import load_config
    from flows.pipeline_flow import pipeline_story
    from flows.runs import Run, Stopped

    config = load_config("demo", MICRO, (f"source={{kind: local, path: '{corpus}'}}",))
    with pytest.raises(Stopped):
        pipeline_story(config, Run(Runtime(store=store), until="pretrain"))
