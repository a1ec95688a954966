"""Seeded points of SIGKILL: who is killed when, drawn again until the kill hits a process at work."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from faulting import Running, descendants

from flows.service.ephemeral_server import SERVER_FACTORY

CORPUS_STAGES = ("acquire", "filter", "dedup", "split")
"""Those that spread their jobs over processes."""
MODEL_STAGES = ("base_model", "export", "evaluate")
STEPS = {"pretrain": 40, "lora": 20}
STEPS_PER_CHECKPOINT = 5
LOOK_SECONDS = 0.0005


@dataclass(frozen=True)
class Kill:
    """One kill of a run that builds one stage anew. seed: decides all that is random in it; how: one of STRIKES."""

    how: str
    stage: str
    seed: int

    def __str__(self) -> str:
        return f"{self.how}-{self.stage}-{self.seed}"

    @property
    def row(self) -> str:
        """Its row of the table of faults."""
        return STRIKES[self.how][0]

    @property
    def workers(self) -> int:
        return 2 if self.how in ("flow-processes", "corpus-worker") else 1

    @property
    def ends_flow(self) -> bool:
        return self.how.startswith("flow") or self.how == "command-flow"

    @property
    def by_command(self) -> bool:
        """Whether it is a run of the command line, with Prefect."""
        return self.how.startswith("command")

    def strike(self, run: Running, store: Path, seconds: float, draw: int) -> bool:
        """Kills; False if nothing was left to kill. seconds: what the stage takes; draw: 0, 1... until one hits."""
        dice = random.Random(f"{self} {draw}")
        return STRIKES[self.how][1](self, dice, run, store, seconds * 0.7**draw)


Strike = Callable[[Kill, random.Random, Running, Path, float], bool]
Named = dict[str, tuple[str, Strike]]


def prepare(undisturbed: Path, store: Path, stage: str) -> None:
    """A store with all but that stage's artifact: it is built anew, and what follows is found if it has its bytes."""
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(undisturbed, store, ignore=lambda folder, _: [stage] if Path(folder) == undisturbed else [])


def flow_at_a_time(kill: Kill, dice: random.Random, run: Running, store: Path, seconds: float) -> bool:
    end = time.monotonic() + dice.uniform(0, seconds)
    while time.monotonic() < end and run.poll() is None:
        time.sleep(LOOK_SECONDS)
    return kill_process(run)


def flow_amid_a_stage(kill: Kill, dice: random.Random, run: Running, store: Path, seconds: float) -> bool:
    return seen(lambda: partial_of(kill, store), run) and flow_at_a_time(kill, dice, run, store, seconds)


def flow_amid_its_processes(kill: Kill, dice: random.Random, run: Running, store: Path, seconds: float) -> bool:
    return seen(lambda: descendants(run, "spawn_main"), run) and flow_at_a_time(kill, dice, run, store, seconds)


def flow_at_the_seal(kill: Kill, dice: random.Random, run: Running, store: Path, seconds: float) -> bool:
    """While half-done work is removed, while the manifest is written, or right after the rename."""
    moment = dice.choice(("scratch removed", "manifest", "renamed"))
    most = 0

    def sealing() -> bool:
        nonlocal most
        if any(store.glob(f"{kill.stage}/*")):
            return True
        partial = partial_of(kill, store)
        if partial is None or moment == "renamed":
            return False
        if moment == "manifest":
            return (partial / "manifest.json").exists()
        left = sum(1 for _ in partial.glob(".scratch/**/*"))
        most = max(most, left)
        return left < most and not (partial / ".scratch" / "job.json").exists()

    return seen(sealing, run) and kill_process(run)


def worker_at_a_time(kill: Kill, dice: random.Random, run: Running, store: Path, seconds: float) -> bool:
    found = seen(lambda: descendants(run, "tasks.worker"), run, pause=0.02)
    if not found:
        return False
    end = time.monotonic() + dice.uniform(0, seconds)
    while time.monotonic() < end and run.poll() is None and found[0].is_running():
        time.sleep(0.005)
    found = descendants(run, "tasks.worker")  # export has one after another
    return bool(found) and kill_process(found[0])


def training_at_a_step(kill: Kill, dice: random.Random, run: Running, store: Path, seconds: float) -> bool:
    """Within the steps, or amid the checkpoint, that follow a checkpoint drawn at random."""
    found = seen(lambda: descendants(run, "tasks.worker"), run, pause=0.02)
    step = STEPS_PER_CHECKPOINT * dice.randrange(STEPS[kill.stage] // STEPS_PER_CHECKPOINT)
    prefix = dice.choice(("step-", ".writing-"))

    def reached() -> bool:
        folders = store.glob(f".partial/{kill.stage}-*/.scratch/checkpoints/{prefix}*")
        return any(int(folder.name.removeprefix(prefix)) >= step for folder in folders)

    if not found or not seen(reached, run):
        return False
    time.sleep(dice.uniform(0, 0.05))
    return kill_process(found[0])


def corpus_worker(kill: Kill, dice: random.Random, run: Running, store: Path, seconds: float) -> bool:
    if not seen(lambda: descendants(run, "spawn_main"), run, pause=0.01):
        return False
    end = time.monotonic() + dice.uniform(0, seconds)
    while time.monotonic() < end and run.poll() is None:
        time.sleep(0.005)
    found = descendants(run, "spawn_main")
    return bool(found) and kill_process(dice.choice(found))


def server_at_a_time(kill: Kill, dice: random.Random, run: Running, store: Path, seconds: float) -> bool:
    if not seen(lambda: partial_of(kill, store), run):
        return False
    end = time.monotonic() + dice.uniform(0, seconds)
    while time.monotonic() < end and run.poll() is None:
        time.sleep(0.005)
    found = descendants(run, SERVER_FACTORY)
    return bool(found) and kill_process(found[0])


def partial_of(kill: Kill, store: Path) -> Path | None:
    return next(store.glob(f".partial/{kill.stage}-*"), None)


def seen(look: Callable[[], Any], run: Running, pause: float = LOOK_SECONDS) -> Any:
    """What `look` finds while the run goes on; None once it has ended."""
    while run.poll() is None:
        if found := look():
            return found
        time.sleep(pause)
    return None


def kill_process(process: Running | psutil.Process) -> bool:
    try:
        psutil.Process(process.pid).kill()
    except psutil.NoSuchProcess:
        return False
    return True


STRIKES: Named = {
    "flow-time": ("SIGKILL of the flow at a random time", flow_at_a_time),
    "flow-stage": ("SIGKILL of the flow amid a stage", flow_amid_a_stage),
    "flow-seal": ("SIGKILL of the flow at a seal", flow_at_the_seal),
    "flow-processes": ("SIGKILL of the flow while its corpus workers work", flow_amid_its_processes),
    "corpus-worker": ("SIGKILL of a corpus worker", corpus_worker),
    "worker": ("SIGKILL of an import, export or evaluation worker", worker_at_a_time),
    "pretrain": ("SIGKILL of a pretraining at a random step", training_at_a_step),
    "lora": ("SIGKILL of a LoRA tuning at a random step", training_at_a_step),
    "command-flow": ("SIGKILL of `tsuzuki run`", flow_amid_a_stage),
    "command-server": ("SIGKILL of the temporary server of `tsuzuki run`", server_at_a_time),
    "command-worker": ("SIGKILL of a training under `tsuzuki run`", worker_at_a_time),
}
