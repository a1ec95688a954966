"""SIGKILL at seeded random moments, of everything that runs; then the same run: as if nothing had happened.

A point is repeated alone by its name: `pytest tests/faults/test_random_kills.py -m 'faults or not faults' -k NAME`.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue

import pytest
from faulting import FaultLog, Recovery, assert_nothing_is_left
from kill_points import CORPUS_STAGES, MODEL_STAGES, Kill, kill_process, prepare
from served import wait_for
from story_server import Commands, Starter, StoryServer

from data_contracts.manifest import Manifest
from flows.inspecting.accounting import accounts
from tasks.stages import STAGES
from tasks.store import Store

DRAWS = 12
SPREAD_SECONDS = 4.0
"""What a corpus stage takes with worker processes."""
WEIGHTS = {"acquire": 5, "filter": 10, "dedup": 4, "split": 1, "base_model": 50, "binarize": 1, "pretrain": 45}
WEIGHTS |= {"instructions": 1, "lora": 45, "export": 90, "evaluate": 50, "deliver": 2}
"""How an undisturbed run's time is spread over its stages."""


FEW = (
    Kill("flow-stage", "filter", 1),
    Kill("flow-seal", "acquire", 2),
    Kill("flow-seal", "dedup", 3),
    Kill("corpus-worker", "acquire", 4),
)


def kills() -> list[Kill]:
    """The same every time: half of them at random times, half aimed at every stage and its seal."""
    dice, found = random.Random(20261121), []

    def add(how: str, stages: list[str] | tuple[str, ...]) -> None:
        found.extend(Kill(how, stage, dice.randrange(10_000)) for stage in stages)

    add("flow-time", dice.choices(list(WEIGHTS), list(WEIGHTS.values()), k=24))
    add("flow-stage", tuple(STAGES))
    add("flow-seal", 2 * tuple(STAGES))
    add("flow-processes", 2 * CORPUS_STAGES)
    add("corpus-worker", 3 * CORPUS_STAGES)
    add("worker", 3 * MODEL_STAGES)
    add("pretrain", ["pretrain"] * 12)
    add("lora", ["lora"] * 8)
    add("command-flow", ("filter", "pretrain", "export", "evaluate"))
    add("command-server", ("filter", "base_model", "pretrain", "lora", "export", "evaluate"))
    add("command-worker", ("pretrain", "lora"))
    return found


class Undisturbed:
    """A run without a fault, and whether another one equals it."""

    def __init__(self, server: StoryServer, store: Path, until: str | None = None) -> None:
        assert server.start(store, until=until).wait() == 0, server.said()
        self.store, self.until, self.manifests = store, until, manifests(store)
        self.accounts = [asdict(account) for account in accounts(store)]

    def assert_equal(self, store: Path) -> None:
        """Every stage once, with the same bytes and counts (documents, tokens, steps); accounts that add up."""
        found = manifests(store)
        for stage, expected in self.manifests.items():
            assert found[stage].digest == expected.digest, stage
            assert counts(found[stage]) == counts(expected), stage
        assert len(found) == len(self.manifests)
        told = [asdict(account) for account in accounts(store)]
        assert told == self.accounts
        assert not any(account["problems"] for account in told)
        assert_nothing_is_left(store)


def counts(manifest: Manifest) -> dict[str, int]:
    """All but the size of a delivery, whose report tells how long the run took."""
    return {name: count for name, count in manifest.summary.counts.items() if name != "num_bytes"}


def manifests(store: Path) -> dict[str, Manifest]:
    found = [manifest for _, manifest in Store(store).manifests()]
    assert len({manifest.stage for manifest in found}) == len(found), "two artifacts of one stage"
    return {manifest.stage: manifest for manifest in found}


def survive(kill: Kill, starter: StoryServer | Commands, undisturbed: Undisturbed, store: Path, log: FaultLog) -> None:
    """Kills, runs again at once, without worker processes for shards, and compares."""
    seconds = SPREAD_SECONDS if kill.workers > 1 else undisturbed.manifests[kill.stage].seconds
    with log.trying(kill.row) as recovery:
        for draw in range(DRAWS):
            prepare(undisturbed.store, store, kill.stage)
            run = starter.start(store, until=undisturbed.until, workers=kill.workers)
            hit = kill.strike(run, store, seconds, draw)
            recovery.begin()
            code = run.wait()
            if hit and (code == -9 or not kill.ends_flow):
                break
        else:
            pytest.fail(f"{kill}: {DRAWS} draws met nothing to kill")
        if kill.by_command and not kill.ends_flow:
            assert code == 0, f"{kill}: it comes to the end by itself\n{starter.said()}"
        else:
            assert starter.start(store, until=undisturbed.until).wait() == 0, f"{kill}\n{starter.said()}"
        recovery.end()
        undisturbed.assert_equal(store)
        assert_nothing_of(starter)
    shutil.rmtree(store)


def assert_nothing_of(starter: Starter) -> None:
    """No process that its runs started, no temporary file."""
    wait_for(lambda: not starter.left(), seconds=30)
    left = [path.name for path in starter.temporary.iterdir() if not path.name.startswith("torchinductor")]
    assert not left, left  # torch's cache of compiled code is meant to stay


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoryServer]:
    made = StoryServer(tmp_path_factory.mktemp("server") / "of-runs")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def servers(server: StoryServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[StoryServer]]:
    another = StoryServer(tmp_path_factory.mktemp("server") / "of-runs")
    yield [server, another]
    another.stop()


@pytest.fixture(scope="module")
def undisturbed(servers: list[StoryServer], tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(servers[0], tmp_path_factory.mktemp("undisturbed") / "store")


@pytest.fixture(scope="module")
def survived(
    servers: list[StoryServer],
    undisturbed: Undisturbed,
    tmp_path_factory: pytest.TempPathFactory,
    fault_log: FaultLog,
    request: pytest.FixtureRequest,
) -> Iterator[dict[Kill, Future[None]]]:
    """The kills of all tests that were asked for, two at a time: most of each is waiting for one busy process."""
    asked = [item.callspec.params["kill"] for item in request.session.items if item.name.startswith("test_killed_at_")]
    folder, free = tmp_path_factory.mktemp("kills"), SimpleQueue()
    for number, server in enumerate(servers):
        free.put((server, Commands(folder / f"commands-{number}")))

    def try_one(kill: Kill) -> None:
        server, commands = starters = free.get()
        try:
            survive(kill, commands if kill.by_command else server, undisturbed, folder / str(kill), fault_log)
        finally:
            free.put(starters)

    with ThreadPoolExecutor(len(servers)) as pool:
        yield {kill: pool.submit(try_one, kill) for kill in asked}
        pool.shutdown(cancel_futures=True)


def test_a_corpus_half_killed_at_a_few_moments_ends_like_an_undisturbed_one(server, tmp_path, fault_log):
    undisturbed = Undisturbed(server, tmp_path / "undisturbed", until="split")
    for kill in FEW:
        survive(kill, server, undisturbed, tmp_path / "store", fault_log)


@pytest.mark.faults
@pytest.mark.parametrize("kill", kills(), ids=str)
def test_killed_at_a_random_moment_a_run_ends_like_an_undisturbed_one(kill, survived):
    survived[kill].result()


@pytest.mark.faults
@pytest.mark.parametrize("seed", [11, 12])
def test_killed_again_and_again_a_run_ends_like_an_undisturbed_one(seed, servers, undisturbed, tmp_path, fault_log):
    dice, store, most = random.Random(seed), tmp_path / "store", 1.0
    with ExitStack() as tried:
        recoveries: list[Recovery] = []
        while killed_within(dice.uniform(0, most), servers[0], store):
            recoveries.append(tried.enter_context(fault_log.trying("SIGKILL of the flow, again and again")))
            most *= 1.2  # what cannot resume needs its time in one piece
        for recovery in recoveries:
            recovery.end()
        undisturbed.assert_equal(store)
        assert_nothing_of(servers[0])


def killed_within(seconds: float, server: StoryServer, store: Path) -> bool:
    """Whether a run was killed after that time; False if it was done before. Any other end is a failure."""
    run = server.start(store)
    end = time.monotonic() + seconds
    while time.monotonic() < end and run.poll() is None:
        time.sleep(0.005)
    killed = kill_process(run)
    assert run.wait() in ((-9, 0) if killed else (0,)), server.said()
    return run.returncode == -9
