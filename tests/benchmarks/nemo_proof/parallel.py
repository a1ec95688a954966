"""Backend `nemo` cut over two GPUs through executor `torchrun`, against one GPU on the same weights and batches.

    python tests/benchmarks/nemo_proof/parallel.py check
    python tests/benchmarks/nemo_proof/parallel.py prepare --layers 4
    python tests/benchmarks/nemo_proof/parallel.py curves one dp2 tp2 pp2 cp2 --layers 4
    python tests/benchmarks/nemo_proof/parallel.py faults dp2-zero tp2-sp pp2 cp2 --layers 4
    python tests/benchmarks/nemo_proof/parallel.py speed one dp2 --layers 24
    python tests/benchmarks/nemo_proof/parallel.py generate tp2 --layers 4

check    everything that the machine lacks, at once: GPUs, programs, NCCL between two processes
prepare  a Qwen2.5 of so many layers with random weights, proved (base_model) and as a NeMo checkpoint
curves   trains in each layout, all at once; what does not hold (tokens, one export, its logits) is told as `failed`
faults   the same, told to end (SIGTERM), run again, killed (SIGKILL, every process), run again to its end
speed    trains in each layout, one after the other on idle GPUs
generate what a layout trained, imported again: answers of `tsuzuki generate` from it and from the export

Figures go to OUT/proof.jsonl, one JSON object a line. --small tries them on a CPU, --steps N takes N steps.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attempts import CURVE_TOLERANCE, ended_and_killed
from curves import difference, losses
from layouts import LAYOUTS, MULTICAST_OFF, Parallel, ended_well, held
from proof import at_once
from scene import ROOT, Scene

HERE = Path(__file__).resolve().parent
PROMPTS = ("日本の首都は", "人工知能の歴史は", "東京都は、")
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
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
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
    options.out, options.engine = Path(os.environ.get("OUT") or options.work), not options.small
    options.work = options.work / f"{options.layers}-layers"
    options.work.mkdir(parents=True, exist_ok=True)
    return STEPS[options.step](options)


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
    return _each(options, ended_and_killed, [options.layouts])


def speeds(options: Any) -> int:
    return _each(options, _curve, [[layout] for layout in options.layouts])


def generate(options: Any) -> int:
    """What the NeMo checkpoint and the folder that it came from answer to the same prompts, greedily, on the device."""
    from tasks import stages
    from tasks.models.config import NemoImportConfig

    scene = Scene(options)
    for layout in options.layouts:
        [folder] = ended_well(Parallel(options, layout), layout)
        trained = stages.PRETRAIN.output.open(folder)
        imported = scene.build(stages.NEMO_CHECKPOINT, NemoImportConfig(), base=trained)
        with scene.timed(f"generate {layout}") as figures:
            figures["transformers"] = _answers(scene, "tasks.evaluate.answering:answer", trained, Path(sys.executable))
            nemo = _answers(scene, "tasks.evaluate.nemo_answering:answer", imported, options.nemo_python)
            figures["nemo"] = nemo
    return 0


def _answers(scene: Scene, function: str, artifact: Any, python: Path) -> list[dict[str, Any]]:
    """The events of the worker behind `tsuzuki generate`."""
    from tasks.job import run_worker
    from tasks.workspace import Workspace

    events: list[dict[str, Any]] = []
    arguments = {"folder": str(artifact.path.resolve()), "adapter": None, "prompts": list(PROMPTS), "seed": 0}
    arguments |= {"max_new_tokens": 64, "temperature": 0.0, "top_k": 1, "device": scene.device, "cpu_threads": 4}
    with tempfile.TemporaryDirectory() as folder:
        run_worker(function, arguments, Workspace(Path(folder), scene.runtime), events.append, python)
    return events


def _each(options: Any, action: Callable[[Parallel], dict[str, Any]], waves: list[list[str]]) -> int:
    """Tells the figures of each layout; returns the number of layouts for which something did not hold."""
    failed: list[str] = []

    def told(layout: str) -> None:
        scene = Parallel(options, layout, f"-killed-{layout}" if action is ended_and_killed else "")
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
    done = {layout: folder for layout in LAYOUTS for folder in ended_well(Parallel(options, layout), layout)}
    found = {layout: losses(folder) for layout, folder in done.items()}
    (options.out / f"parallel-curves-{options.layers}.json").write_text(json.dumps(found), encoding="utf-8")
    num_far = 0
    for layout in sorted(found.keys() - {"one"}) if "one" in found else ():
        apart = difference(found[layout], found["one"])
        Scene(options).tell(f"curve {options.layers} layers, {layout} minus one", **apart)
        num_far += apart["mean_absolute"] > CURVE_TOLERANCE
    return num_far


def _curve(scene: Parallel) -> dict[str, Any]:
    artifact = scene.trained_here()
    place = scene.work / "artifacts" / f"{scene.layout}"
    place.parent.mkdir(exist_ok=True)
    place.write_text(str(artifact.path.resolve()), encoding="utf-8")
    return held(scene, artifact)


STEPS: dict[str, Callable[[Any], int]] = {
    "check": check,
    "prepare": prepare,
    "build": build,
    "curves": curves,
    "faults": faults,
    "speed": speeds,
    "generate": generate,
}

if __name__ == "__main__":
    sys.exit(main())
