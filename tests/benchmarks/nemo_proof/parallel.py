"""Backend `nemo` cut over two GPUs through executor `torchrun`, against one GPU on the same weights and batches.

    python tests/benchmarks/nemo_proof/parallel.py check
    python tests/benchmarks/nemo_proof/parallel.py prepare --layers 4
    python tests/benchmarks/nemo_proof/parallel.py curves one dp2 tp2 pp2 cp2 --layers 4
    python tests/benchmarks/nemo_proof/parallel.py faults dp2-zero tp2-sp pp2 cp2 --layers 4
    python tests/benchmarks/nemo_proof/parallel.py speed one dp2 --layers 24

check    everything that the machine lacks, at once: GPUs, programs, NCCL between two processes
prepare  a Qwen2.5 of so many layers with random weights, proved (base_model) and as a NeMo checkpoint
curves   trains in each layout, all at once; what does not hold (tokens, one export, its logits) is told as `failed`
faults   the same, told to end (SIGTERM), run again, killed (SIGKILL, every process), run again to its end
speed    trains in each layout, one after the other on idle GPUs

Figures go to OUT/proof.jsonl, one JSON object a line. --small tries them on a CPU, --steps N takes N steps.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from curves import difference, losses, rows
from proof import at_once
from scene import ROOT, Scene

from tasks.training.executors import Torchrun

HERE = Path(__file__).resolve().parent
LAYOUTS: dict[str, dict[str, Any]] = {
    "one": {},
    "one-again": {},
    "dp2": {},
    "dp2-zero": {"distributed_optimizer": True},
    "tp2": {"tensor_parallel": 2},
    "tp2-sp": {"tensor_parallel": 2, "sequence_parallel": True},
    "pp2": {"pipeline_parallel": 2},
    "cp2": {"context_parallel": 2},
}
MULTICAST_OFF = {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1"}
"""Said again for the processes of the training: on shared hosts NVLink multicast must stay off."""
CURVE_TOLERANCE = 0.05
"""Mean difference in nats of a curve from that of one GPU; two runs of one GPU are about 0.01 apart."""
STEP0_TOLERANCE = 5e-3
LAST_PROCESS_SECONDS = 25.0
NCCL_SUM = """
import os, torch
rank = int(os.environ["LOCAL_RANK"])
torch.cuda.set_device(rank)
torch.distributed.init_process_group("nccl", device_id=torch.device("cuda", rank))
value = torch.ones(1 << 20, device="cuda") * (rank + 1)
torch.distributed.all_reduce(value)
assert float(value[-1]) == 3.0, float(value[-1])
print("NCCL", torch.cuda.nccl.version(), "peer access", torch.cuda.can_device_access_peer(0, 1))
torch.distributed.destroy_process_group()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("layouts", nargs="*", metavar="LAYOUT")
    parser.add_argument("--nemo-python", type=Path, default=Path("/tmp/nemo-env/bin/python"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/nemo-parallel"))
    parser.add_argument("--material", type=Path, default=Path("/tmp/nemo-material"))
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--suffix", default="", help="of the store, for the runs that are ended and killed")
    parser.add_argument("--small", action="store_true", help="toy shapes in fp32 on a CPU, without Transformer Engine")
    options = parser.parse_args()
    if unknown := set(options.layouts) - LAYOUTS.keys():
        parser.error(f"{', '.join(unknown)}: expected any of {', '.join(LAYOUTS)}")
    options.out, options.engine = Path(os.environ.get("OUT", options.work)), not options.small
    options.work = options.work / f"{options.layers}-layers"
    options.work.mkdir(parents=True, exist_ok=True)
    return STEPS[options.step](options)


class Parallel(Scene):
    """The scene of one layout."""

    def __init__(self, options: Any, layout: str, suffix: str = "") -> None:
        super().__init__(options, suffix or ("-again" if layout == "one-again" else ""))
        self.layout = layout
        self.num_gpus = 1 if layout.startswith("one") else 2
        if self.num_gpus > 1:
            executor = Torchrun(kind="torchrun", num_gpus=self.num_gpus, environment=MULTICAST_OFF)
            self.runtime = self.runtime.model_copy(update={"executor": executor})

    @property
    def name(self) -> str:
        return f"{self.options.layers} layers, {self.layout}"

    def config(self) -> Any:
        common, is_speed = self.common("nemo"), self.options.layers > 4 and not self.small
        sizes = {"sequence_length": 2048, "micro_batch_size": 8, "global_batch_size": 16}
        if not is_speed:
            sizes = {"sequence_length": 64 if self.small else 1024, "micro_batch_size": 2, "global_batch_size": 8}
        changes = {
            **sizes,
            "validation_batches": 4,
            "validate_every_steps": self.options.steps,
            "checkpoint_every_steps": max(1, self.options.steps * 5 // 16),
            "nemo": common["nemo"] | {"num_gpus": self.num_gpus} | LAYOUTS[self.layout],
        }
        return self.pretrain_config("qwen", "nemo", **changes)

    def trained_here(self) -> Any:
        from tasks import stages

        base = self.base("qwen")
        inputs = {"base": base, "tokens": self.tokens("qwen"), "nemo_checkpoint": self.imported("qwen")}
        return self.build(stages.PRETRAIN, self.config(), **inputs)

    def partial(self) -> Path | None:
        return next((self.store.root / ".partial").glob("pretrain-*"), None)


def check(options: Any) -> int:
    failures = []
    bin_folder = options.nemo_python.parent
    environment = {**os.environ, **MULTICAST_OFF, "OMP_NUM_THREADS": "4"}
    script = options.work / "nccl_sum.py"
    script.write_text(NCCL_SUM, encoding="utf-8")
    tried = {
        "two GPUs": ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
        "how they are linked": ["nvidia-smi", "topo", "-m"],
        "torch sees them": [options.nemo_python, "-c", "import torch; assert torch.cuda.device_count() == 2"],
        "NeMo-Run": [options.nemo_python, "-c", "import nemo_run, torchx; print(nemo_run.__file__)"],
        "torchrun and NCCL": [bin_folder / "torchrun", "--standalone", "--nproc-per-node", "2", script],
        "psutil": [sys.executable, "-c", "import psutil, pyarrow, safetensors, transformers"],
    }
    for name, words in tried.items():
        try:
            done = subprocess.run(list(map(str, words)), cwd=ROOT, env=environment, capture_output=True, text=True,
                                  timeout=120)  # fmt: skip
            print(name, "ok" if done.returncode == 0 else f"FAILED ({done.returncode})", done.stdout.strip()[-700:])
            if done.returncode:
                failures.append(name)
                print(done.stderr[-1500:])
        except (OSError, subprocess.TimeoutExpired) as error:
            failures.append(name)
            print(name, "FAILED", error)
    missing = [path for path in (options.nemo_python, options.material / "store.tar.xz") if not path.exists()]
    print(f"{len(failures) + len(missing)} missing or failing: {', '.join([*failures, *map(str, missing)]) or 'none'}")
    return len(failures) + len(missing)


def prepare(options: Any) -> int:
    scene = Scene(options)
    scene.unpack(options.material)
    layers = ["--toy"] if options.small else []
    words = [HERE / "random_qwen.py", scene.work / "tokenizer", scene.work / "qwen", "--layers", options.layers]
    subprocess.run([sys.executable, *map(str, words), *layers], cwd=ROOT, check=True)
    with scene.timed(f"prepare {options.layers} layers") as figures:
        figures.update(japanese_loss=scene.base("qwen").manifest.summary.proofs["japanese_loss"])
        figures.update(scene.imported("qwen").manifest.summary.counts)
    return 0


def build(options: Any) -> int:
    """One layout to its end, in a process of its own that can be killed; not to be called by hand."""
    [layout] = options.layouts
    Parallel(options, layout, options.suffix).trained_here()
    return 0


def curves(options: Any) -> int:
    return _each(options, _curve, [options.layouts])


def faults(options: Any) -> int:
    return _each(options, _ended_and_killed, [options.layouts])


def speeds(options: Any) -> int:
    return _each(options, _curve, [[layout] for layout in options.layouts])


def _each(options: Any, action: Callable[[Parallel], dict[str, Any]], waves: list[list[str]]) -> int:
    """Tells the figures of each layout; returns the number of layouts for which something did not hold."""
    failed: list[str] = []

    def told(layout: str) -> None:
        scene = Parallel(options, layout, f"-killed-{layout}" if action is _ended_and_killed else "")
        figures: dict[str, Any] = {"failed": ["it did not end"]}
        started = time.monotonic()
        try:
            figures = action(scene)
        except Exception as error:
            figures["error"] = f"{type(error).__name__}: {error}"[-3000:]
        if figures["failed"]:
            failed.append(layout)
        scene.tell(f"{options.step} {scene.name}", seconds=round(time.monotonic() - started, 1), **figures)

    for wave in waves:
        at_once([lambda layout=layout: told(layout) for layout in wave])
    _compare(options)
    return len(failed) + _compare(options)


def _compare(options: Any) -> int:
    """Tells how far each curve there is from that of one GPU; returns how many are too far."""
    done = {layout: folder for layout in LAYOUTS for folder in _ended_well(Parallel(options, layout), layout)}
    found = {layout: losses(folder) for layout, folder in done.items()}
    (options.out / f"parallel-curves-{options.layers}.json").write_text(json.dumps(found), encoding="utf-8")
    num_far = 0
    for layout in sorted(found.keys() - {"one"}) if "one" in found else ():
        apart = difference(found[layout], found["one"])
        Scene(options).tell(f"curve {options.layers} layers, {layout} minus one", **apart)
        num_far += apart["mean_absolute"] > CURVE_TOLERANCE
    return num_far


def _ended_well(scene: Parallel, layout: str) -> list[Path]:
    """The folder of a layout's sealed model, in a list; none where it was not trained (it is not now)."""
    place = scene.work / "artifacts" / layout
    return [Path(place.read_text(encoding="utf-8"))] if place.exists() else []


def _curve(scene: Parallel) -> dict[str, Any]:
    artifact = scene.trained_here()
    place = scene.work / "artifacts" / f"{scene.layout}"
    place.parent.mkdir(exist_ok=True)
    place.write_text(str(artifact.path.resolve()), encoding="utf-8")
    return _held(scene, artifact)


def _held(scene: Parallel, artifact: Any) -> dict[str, Any]:
    """Figures of a sealed model, and as `failed` what does not hold."""
    summary, config = artifact.manifest.summary, scene.config()
    counts, proofs = summary.counts, summary.proofs
    expected = config.max_steps * config.global_batch_size * config.sequence_length
    losses_here = losses(artifact.path)
    holds = {
        "tokens reconcile": counts["tokens_consumed"] == expected,
        "every step once": sorted(losses_here) == list(range(1, config.max_steps + 1)),
        "one export": len(list(artifact.path.rglob("*.safetensors"))) == 1 and _is_alone(scene),
        "logits of the export": proofs["logits_compared"] > 0,
        "loss falls": proofs["last_loss"] < proofs["first_loss"],
        "step 0": abs(proofs["step0_loss"] - proofs["step0_reference_loss"]) < STEP0_TOLERANCE,
    }
    settled = [row["tokens_per_second"] for row in rows(artifact.path)[config.max_steps // 3 :]]
    names = ("step0_loss", "step0_reference_loss", "last_loss", "validation_losses", "logits_relative_difference",
             "logits_largest_difference", "logits_same_best_token")  # fmt: skip
    return {
        "failed": [name for name, held in holds.items() if not held],
        "tokens": counts["tokens_consumed"],
        "tokens_per_second_median": round(median(settled)),
        **{name: proofs[name] for name in names},
    }


def _is_alone(scene: Parallel) -> bool:
    """Whether a store of one layout holds one sealed training and no other's leftovers."""
    sealed = [folder for folder in (scene.store.root / "pretrain").iterdir() if folder.is_dir()]
    return not scene.suffix or (len(sealed) == 1 and scene.partial() is None)


def _ended_and_killed(scene: Parallel) -> dict[str, Any]:
    shutil.rmtree(scene.store.root, ignore_errors=True)
    steps = scene.options.steps
    first = _Attempt(scene)
    figures: dict[str, Any] = {"terminated_after_step": first.wait_for_step(steps // 8)}
    figures["seconds_to_end"] = first.terminate()
    figures["checkpoint_of_sigterm"] = stopped = _checkpoints(scene)
    second = _Attempt(scene)
    figures["killed_after_step"] = second.wait_for_step(steps * 5 // 16 + steps // 8)
    figures["seconds_to_last_process"] = second.kill()
    figures["checkpoint_when_killed"] = kept = _checkpoints(scene)
    third = _Attempt(scene)
    figures["started_at_steps"] = starts = third.starts(3)
    figures["attempts_ended_with"] = [first.code, second.code, third.wait()]
    held = _held(scene, scene.trained_here())
    if "stopped by SIGTERM" not in first.said():
        held["failed"].append("SIGTERM was not told")
    if len(stopped) != 1 or stopped[0] < steps // 8 or len(kept) != 1 or starts != [0, *stopped, *kept]:
        held["failed"].append("resumed at the checkpoints")
    never_killed = _ended_well(scene, scene.layout) or _ended_well(scene, "one")
    if never_killed:
        artifact = scene.trained_here()
        figures["curve_to_never_killed"] = apart = difference(losses(artifact.path), losses(never_killed[0]))
        if apart["mean_absolute"] > CURVE_TOLERANCE:
            held["failed"].append("curve")
    return {**figures, **held}


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
        words = [HERE / "parallel.py", "build", scene.layout, "--suffix", scene.suffix, "--layers", options.layers,
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
        [worker] = [child for child in psutil.Process(self.process.pid).children() if "tasks.worker" in _words(child)]
        worker.terminate()
        self.code = self.process.wait(90)
        return self._all_gone(tree, started)

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


STEPS: dict[str, Callable[[Any], int]] = {
    "check": check,
    "prepare": prepare,
    "build": build,
    "curves": curves,
    "faults": faults,
    "speed": speeds,
}

if __name__ == "__main__":
    sys.exit(main())
