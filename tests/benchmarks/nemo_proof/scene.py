"""What the steps of the NeMo proof share: one store, its artifacts by name, the configs, a file of figures."""

from __future__ import annotations

import json
import os
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from data_contracts.artifacts import Corpus, InstructionSet, TokenDataset  # noqa: E402
from tasks import stages  # noqa: E402
from tasks.models.config import ExportConfig, ModelConfig, NemoImportConfig  # noqa: E402
from tasks.runtime import Runtime  # noqa: E402
from tasks.stage import Request, Stage  # noqa: E402
from tasks.store import Store  # noqa: E402
from tasks.training.config import LoraConfig, PretrainConfig  # noqa: E402

VOCABULARIES = {"qwen": 151_669, "smollm2": 49_152}
"""Tokens of each tokenizer, by which its token files are told apart."""
LEARNING: dict[str, dict[str, Any]] = {
    "qwen": {"learning_rate": 1e-3, "min_learning_rate": 1e-4, "expect_pretrained": False},
    "smollm2": {"learning_rate": 5e-4, "min_learning_rate": 5e-5, "expect_pretrained": True},
}
LORA_STEPS = 60


class Scene:
    """work: folder of the store and the models, kept from call to call. small: shapes and steps for a trial on a CPU.

    suffix: of the store; another one builds the same keys anew from the same inputs, with a checkpoint on the way.
    """

    def __init__(self, options: Any, suffix: str = "") -> None:
        self.options, self.small, self.work, self.suffix = options, options.small, options.work, suffix
        self.device = "cpu" if options.small else "cuda"
        self.store = Store(self.work / f"store{suffix}")
        self.material = Store(self.work / "material")
        self.runtime = Runtime(
            store=self.store.root,
            workers=os.cpu_count() or 1,
            worker_python=Path(sys.executable),
            nemo_python=options.nemo_python,
            cancel_grace_seconds=60.0,
        )

    # Artifacts, built when they are first asked for.

    def build(self, stage: Stage, config: Any, **inputs: Any) -> Any:
        path = self.store.build(Request.of(stage, config, inputs), self.runtime).path
        return stage.output.open(path)

    def base(self, model: str) -> Any:
        threads = 2 if self.small else 8
        pretrained = LEARNING[model]["expect_pretrained"]
        config = ModelConfig(source=str(self.work / model), expect_pretrained=pretrained, cpu_threads=threads)
        return Scene(self.options).build(stages.BASE_MODEL, config)

    def tokens(self, model: str) -> Any:
        for path, manifest in self.material.manifests("binarize"):
            if manifest.summary.proofs["vocabulary_size"] == VOCABULARIES[model]:
                return TokenDataset.open(path)
        raise LookupError(f"no token files of {model} under {self.material.root}")

    def corpus(self) -> Any:
        return Corpus.open(next(self.material.manifests("split"))[0])

    def instructions(self) -> Any:
        return InstructionSet.open(next(self.material.manifests("instructions"))[0])

    def trained(self, model: str, backend: str) -> Any:
        return self.build(
            stages.PRETRAIN,
            self.pretrain_config(model, backend),
            base=self.base(model),
            tokens=self.tokens(model),
            **({"nemo_checkpoint": self.imported(model)} if backend == "nemo" else {}),
        )

    def imported(self, model: str) -> Any:
        """The base as a NeMo checkpoint."""
        scene = Scene(self.options)
        return scene.build(stages.NEMO_CHECKPOINT, NemoImportConfig(), base=scene.base(model))

    def adapter(self) -> Any:
        model = self.trained("qwen", "nemo")
        return self.build(stages.LORA, self.lora_config(), model=model, instructions=self.instructions())

    def tuned(self) -> Any:
        config = ExportConfig(compare_dtype="float32", logits_tolerance=1e-3, cpu_threads=2 if self.small else 16)
        continued = self.trained("qwen", "nemo")
        return self.build(stages.EXPORT, config, base=self.base("qwen"), continued=continued, adapter=self.adapter())

    # Configs.

    def pretrain_config(self, model: str, backend: str, **changes: Any) -> PretrainConfig:
        steps = self.options.steps
        return PretrainConfig.model_validate(
            {
                **self.common(backend),
                **LEARNING[model],
                "max_steps": steps,
                "warmup_steps": steps // 10,
                "validate_every_steps": max(1, steps // 2),
                "checkpoint_every_steps": max(1, steps // 2 if self.suffix else steps),
                **changes,
            }
        )

    def lora_config(self) -> LoraConfig:
        steps = 4 if self.small else LORA_STEPS
        changes = {"global_batch_size": 4, "micro_batch_size": 4, "max_steps": steps, "warmup_steps": 2}
        cadence = {"validate_every_steps": steps, "checkpoint_every_steps": steps, "base_name": "random-qwen2.5-0.5b"}
        return LoraConfig.model_validate({**self.common("nemo"), **changes, **cadence})

    def common(self, backend: str) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "backend": backend,
            "sequence_length": 64 if self.small else 2048,
            "micro_batch_size": 2 if self.small else 8,
            "global_batch_size": 2 if self.small else 8,
            "validation_batches": 2 if self.small else 4,
            "precision": "fp32" if self.small else "bf16",
            "device": self.device,
            "log_every_steps": 1,
            "keep_checkpoints": 1,
            "cpu_threads": 2,
        }
        return settings | ({"nemo": {"transformer_engine": self.options.engine}} if backend == "nemo" else {})

    # Figures.

    def tell(self, step: str, **figures: Any) -> None:
        """Appends a line to the figures of this call, and of all calls since the machine started."""
        line = json.dumps({"step": step, **figures}, ensure_ascii=False, default=str)
        print(line[:1500], flush=True)
        for folder in {self.options.out, self.work}:
            with open(folder / "proof.jsonl", "a", encoding="utf-8") as file:
                file.write(line + "\n")

    @contextmanager
    def timed(self, step: str) -> Iterator[dict[str, Any]]:
        """Tells the figures that are put into what it yields, with the seconds it took; or the error."""
        figures: dict[str, Any] = {}
        started = time.monotonic()
        try:
            yield figures
        except Exception as error:
            figures["error"] = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.tell(step, seconds=round(time.monotonic() - started, 1), **figures)

    def unpack(self, folder: Path) -> None:
        """The material of material.py."""
        for name, target in (("tokenizer", self.work / "tokenizer"), ("store", self.material.root)):
            if not target.exists():
                with tarfile.open(folder / f"{name}.tar.xz") as archive:
                    archive.extractall(target, filter="data")
