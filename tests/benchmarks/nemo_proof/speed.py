"""Speed of backend `nemo` by micro-batch and kernels: one GPU, a Qwen2.5-0.5B, sequence 2048, 30 steps each.

    python tests/benchmarks/nemo_proof/speed.py m4 m8 m16 m32 m16-plain m16-graphs m16-fp8 m8-local

One object a variant goes to OUT/speed.jsonl. mN: N samples a step in one micro-batch. -te, -plain: cross-entropy fused
by Transformer Engine, or not fused (else Megatron's fusion). -graphs: CUDA graphs. -fp8: matrix products in FP8.
-local: without Transformer Engine. They go together, as in m16-fp8-graphs.

All processes import NeMo at once; each then waits for its turn on the GPU, and is ended after its steps, so that no
checkpoint is written. Speeds are medians of the steps from SETTLED_STEP on. Run proof.py prepare and import before.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from curves import FLOP_PER_TOKEN, PEAK_FLOP_PER_SECOND
from scene import ROOT, Scene

HERE = Path(__file__).resolve().parent
KERNELS: dict[str, dict[str, Any]] = {
    "plain": {"fused_cross_entropy": False},
    "graphs": {"cuda_graphs": True},
    "fp8": {"fp8": True},
    "local": {"transformer_engine": False},
}
SETTLED_STEP = 10
SEQUENCE_LENGTH = 2048
LOOK_SECONDS = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="+", type=variant)
    parser.add_argument("--nemo-python", type=Path, default=Path("/tmp/nemo-env/bin/python"))
    parser.add_argument("--work", type=Path, default=Path("/tmp/nemo-proof"))
    parser.add_argument("--model", choices=FLOP_PER_TOKEN, default="qwen")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--turn-seconds", type=float, default=60, help="longest turn of a variant")
    parser.add_argument("--small", action="store_true", help="toy shapes in fp32 on a CPU")
    options = parser.parse_args()
    options.out, options.engine = Path(os.environ.get("OUT", options.work)), not options.small
    folder = options.work / "speed"
    shutil.rmtree(folder, ignore_errors=True)
    scene = Scene(options)
    base, checkpoint = scene.base(options.model), scene.imported(options.model).path.resolve()
    started = time.monotonic()
    turns = [Turn(scene, name, changes, folder / name, base, checkpoint) for name, changes in options.variants]
    try:
        while waiting := [turn for turn in turns if not turn.ended()]:
            time.sleep(LOOK_SECONDS)
            if time.monotonic() - started > options.turn_seconds * (len(turns) + 1):
                print("out of time:", ", ".join(turn.name for turn in waiting))
                break
    finally:
        for turn in turns:
            turn.end()
    with open(options.out / "speed.jsonl", "a", encoding="utf-8") as file:
        for turn in turns:
            line = json.dumps({"model": options.model, "variant": turn.name, **turn.figures()})
            print(line)
            file.write(line + "\n")


def variant(text: str) -> tuple[str, dict[str, Any]]:
    """The name of a variant and what it changes in the config."""
    size, *words = text.split("-")
    if not size.startswith("m") or not size[1:].isdigit() or set(words) - KERNELS.keys():
        raise argparse.ArgumentTypeError(f"{text}: expected mN and any of -{', -'.join(KERNELS)}")
    kernels = {name: value for word in words for name, value in KERNELS[word].items()}
    return text, {"micro_batch_size": int(size[1:]), "global_batch_size": int(size[1:]), "kernels": kernels}


class Turn:
    """The process of one variant."""

    def __init__(
        self, scene: Scene, name: str, changes: dict[str, Any], folder: Path, base: Any, checkpoint: Path
    ) -> None:
        self.name, self.folder, self.options = name, folder, scene.options
        self.job = job_file(scene, changes, folder, base, checkpoint)
        self.began: float | None = None
        self.end_reason = ""
        with open(folder / "log.txt", "wb") as log:
            words = [scene.options.nemo_python, HERE / "turn.py", self.job, folder.parent / "turn", folder]
            self.process = subprocess.Popen(
                list(map(str, words)), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def ended(self) -> bool:
        """Whether its steps are done, or it failed, or took too long; it is ended then."""
        if self.end_reason:
            return True
        if self.began is None and (self.folder / "began").exists():
            self.began = time.monotonic()
        if self.process.poll() is not None:
            self.end_reason = f"ended with {self.process.returncode}"
        elif len(self.rows()) >= self.options.steps:
            self.end_reason = "done"
        elif self.began and time.monotonic() - self.began > self.options.turn_seconds:
            self.end_reason = "took too long"
        if self.end_reason:
            self.end()
        return bool(self.end_reason)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def rows(self) -> list[dict[str, Any]]:
        path = self.folder / "logs" / "metrics.jsonl"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def figures(self) -> dict[str, Any]:
        found = [row for row in self.rows() if "tokens_per_second" in row]
        settled = [row["tokens_per_second"] for row in found if row["step"] >= SETTLED_STEP]
        figures: dict[str, Any] = {"steps": len(found), "end": self.end_reason}
        if settled:
            rate = median(settled)
            share = rate * FLOP_PER_TOKEN[self.options.model] / PEAK_FLOP_PER_SECOND
            figures |= {"tokens_per_second": round(rate), "share_of_peak": round(share, 3)}
            figures |= {"first_loss": found[0]["loss"], "last_loss": found[-1]["loss"]}
        memory = self.folder / "memory.json"
        figures |= json.loads(memory.read_text()) if memory.exists() else {}
        if self.end_reason != "done":
            figures["log"] = (self.folder / "log.txt").read_text(errors="replace")[-1500:]
        return figures


def job_file(scene: Scene, changes: dict[str, Any], folder: Path, base: Any, checkpoint: Path) -> Path:
    from tasks.training.backends import TrainingJob
    from tasks.training.nemo_job import NemoJob, folder_of

    model = scene.options.model
    tokens = scene.tokens(model)
    proofs = base.manifest.summary.proofs
    config = scene.pretrain_config(
        model,
        "nemo",
        micro_batch_size=changes["micro_batch_size"],
        global_batch_size=changes["global_batch_size"],
        nemo={"transformer_engine": scene.options.engine} | changes["kernels"],
        max_steps=1000,
        warmup_steps=10,
        validation_batches=0,
        checkpoint_every_steps=1000,
    )
    training = TrainingJob(
        task="pretrain",
        pretrain=config,
        model=base.path.resolve(),
        train=tokens.prefix("train").resolve(),
        validation=tokens.prefix("validation").resolve(),
        eod_token_id=int(tokens.manifest.summary.proofs["eod_token_id"]),
        output=folder.resolve(),
        scratch=folder.resolve() / "scratch",
    )
    job = NemoJob(
        training=training,
        checkpoint=checkpoint,
        num_steps=1000,
        reference_loss=proofs["japanese_loss"],
        vocabulary_size=base.manifest.summary.counts["vocabulary"],
        expect_pretrained=False,
    )
    folder_of(training).mkdir(parents=True)
    job.checkpoints.mkdir()
    return job.save()


if __name__ == "__main__":
    sys.exit(main())
