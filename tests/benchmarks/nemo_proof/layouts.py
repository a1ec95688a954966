"""The layouts of parallel.py, a scene for each, and what must hold of a model that was trained in one."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from curves import losses, rows
from scene import Scene

from tasks.training.executors import Torchrun

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
STEP0_TOLERANCE = 5e-3


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


def ended_well(scene: Parallel, layout: str) -> list[Path]:
    """The folder of a layout's sealed model, in a list; none where it was not trained (it is not now)."""
    place = scene.work / "artifacts" / layout
    return [Path(place.read_text(encoding="utf-8"))] if place.exists() else []


def held(scene: Parallel, artifact: Any) -> dict[str, Any]:
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
