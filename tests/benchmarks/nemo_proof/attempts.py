"""A training in a layout that is told to end, run again, killed, and run again to its end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from curves import difference, losses
from layouts import Parallel, ended_well, held
from scene import ROOT

HERE = Path(__file__).resolve().parent
CURVE_TOLERANCE = 0.05
"""Mean difference in nats of a curve from that of one GPU; two runs of one GPU are about 0.01 apart."""
LAST_PROCESS_SECONDS = 25.0


def ended_and_killed(scene: Parallel) -> dict[str, Any]:
    shutil.rmtree(scene.store.root, ignore_errors=True)
    steps = scene.options.steps
    first = _Attempt(scene)
    figures: dict[str, Any] = {"terminated_after_step": first.wait_for_step(steps // 8)}
    figures["seconds_to_end"] = first.terminate()
    figures["checkpoint_of_sigterm"] = stopped = _checkpoints(scene)
    figures["seconds_to_checkpoint"] = first.seconds_until(".scratch/nemo/checkpoints/step-*/state.json")
    figures["seconds_to_error"] = first.seconds_until(".scratch/nemo/launches/*/error.json")
    second = _Attempt(scene)
    figures["killed_after_step"] = second.wait_for_step(steps * 5 // 16 + steps // 8)
    figures["seconds_to_last_process"] = second.kill()
    figures["checkpoint_when_killed"] = kept = _checkpoints(scene)
    third = _Attempt(scene)
    figures["started_at_steps"] = starts = third.starts(3)
    figures["attempts_ended_with"] = [first.code, second.code, third.wait()]
    found = held(scene, scene.trained_here())
    if "stopped by SIGTERM" not in first.said():
        found["failed"].append("SIGTERM was not told")
    if len(stopped) != 1 or stopped[0] < steps // 8 or len(kept) != 1 or starts != [0, *stopped, *kept]:
        found["failed"].append("resumed at the checkpoints")
    never_killed = ended_well(scene, scene.layout) or ended_well(scene, "one")
    if never_killed:
        artifact = scene.trained_here()
        figures["curve_to_never_killed"] = apart = difference(losses(artifact.path), losses(never_killed[0]))
        if apart["mean_absolute"] > CURVE_TOLERANCE:
            found["failed"].append("curve")
    return {**figures, **found}


def _checkpoints(scene: Parallel) -> list[int]:
    """Steps of the checkpoints that a training can go on from; the folders are those of NeMo's distributed form."""
    found = []
    partial = scene.partial()
    for path in partial.glob(".scratch/nemo/checkpoints/step-*/state.json") if partial else ():
        assert list((path.parent / "weights").glob("__*.distcp")), f"{path.parent} is not in distributed form"
        found.append(json.loads(path.read_text(encoding="utf-8"))["step"])
    return sorted(found)


class _Attempt:
    """A process that builds a layout."""

    def __init__(self, scene: Parallel) -> None:
        options = scene.options
        self.scene, self.log = scene, options.work / f"{scene.layout}-{time.time_ns()}.txt"
        words = [HERE / "parallel.py", "build", scene.layout, f"--suffix={scene.suffix}", "--layers", options.layers,
                 "--steps", options.steps, "--nemo-python", options.nemo_python, "--work", options.work.parent,
                 "--material", options.material, *(["--small"] if options.small else [])]  # fmt: skip
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, words)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.code: int | None = None

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for_step(self, step: int) -> int:
        while self.process.poll() is None:
            seen = [row.get("step", 0) for row in self._rows()]
            if seen and max(seen) >= step:
                return max(seen)
            time.sleep(0.05)
        raise RuntimeError(f"it ended with {self.process.returncode} before step {step}: {self.said()[-2500:]}")

    def starts(self, number: int) -> list[int]:
        """Steps that the attempts so far started at, once there are so many."""
        while self.process.poll() is None:
            found = [event["step"] for event in self._events() if event["event"] == "start"]
            if len(found) >= number:
                return found
            time.sleep(0.05)
        raise RuntimeError(f"it ended with {self.process.returncode} before its start: {self.said()[-2500:]}")

    def terminate(self) -> float:
        """Tells the worker to end, as a cancelled run does; seconds until no process was left."""
        started, tree = time.monotonic(), self._tree()
        self._told_at = time.time()
        [worker] = [child for child in psutil.Process(self.process.pid).children() if "tasks.worker" in _words(child)]
        worker.terminate()
        self.code = self.process.wait(90)
        return self._all_gone(tree, started)

    def seconds_until(self, pattern: str) -> list[float]:
        """From SIGTERM until the files of that name were written, which are there now."""
        folder = self.scene.partial()
        return [round(path.stat().st_mtime - self._told_at, 1) for path in folder.glob(pattern)] if folder else []

    def kill(self) -> float:
        started, tree = time.monotonic(), self._tree()
        for process in tree:
            process.kill()
        self.code = self.process.wait(90)
        return self._all_gone(tree, started)

    def wait(self) -> int:
        self.code = self.process.wait(400)
        if self.code:
            raise RuntimeError(f"it ended with {self.code}: {self.said()[-2500:]}")
        return self.code

    def _tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def _all_gone(self, tree: list[psutil.Process], started: float) -> float:
        _, alive = psutil.wait_procs(tree[1:], timeout=LAST_PROCESS_SECONDS)
        assert not alive, f"still there: {[_words(process) for process in alive]}"
        return round(time.monotonic() - started, 1)

    def _rows(self) -> list[dict[str, Any]]:
        return _lines(self.scene.partial(), "logs/metrics.jsonl")

    def _events(self) -> list[dict[str, Any]]:
        return _lines(self.scene.partial(), ".scratch/nemo/events.jsonl")


def _lines(folder: Path | None, pattern: str) -> list[dict[str, Any]]:
    """The whole JSON lines of the files of a folder."""
    texts = [path.read_text(encoding="utf-8") for path in folder.glob(pattern)] if folder else []
    return [json.loads(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
