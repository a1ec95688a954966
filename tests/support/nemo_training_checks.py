"""Run by NeMo's interpreter: `python nemo_training_checks.py MODEL_FOLDER FOLDER TARGET`.

Imports the model as NeMo does, pretrains 3 steps, resumes to 5, tunes an adapter for 2, all in FOLDER, on random
tokens, without a line of ours but `nemo_compat`; writes shims and losses to TARGET as JSON.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

SEQUENCE_LENGTH = 32


def main(model_folder: Path, folder: Path, target: Path) -> None:
    from tasks.training.nemo_compat import prepare

    os.chdir(folder)  # Lightning leaves its logs where it stands
    shims = prepare()
    from nemo.collections import llm
    from nemo.collections.llm.gpt.model.qwen2 import Qwen2Config500M, Qwen2Model

    imported = folder / "imported"
    llm.import_ckpt(model=Qwen2Model(Qwen2Config500M()), source=f"hf://{model_folder}", output_path=imported)
    write_tokens(folder / "tokens")
    result = {
        "shims": shims,
        "again": prepare(),
        "pretrained": train(folder, imported, num_steps=3),
        "resumed": train(folder, imported, num_steps=5),
        "tuned": train(folder, imported, num_steps=2, adapter=llm.peft.LoRA(target_modules=["linear_qkv"], dim=4)),
        "checkpoints": sorted(path.name for path in (folder / "logs" / "pretrain" / "checkpoints").iterdir()),
    }
    target.write_text(json.dumps(result), encoding="utf-8")


def write_tokens(prefix: Path) -> None:
    import numpy
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=numpy.uint16)
    for document in numpy.random.default_rng(0).integers(0, 320, (100, 50)):
        builder.add_document(torch.tensor(document), [len(document)])
    builder.finalize(f"{prefix}.idx")


def train(folder: Path, imported: Path, num_steps: int, adapter: Any = None) -> list[float]:
    """The losses of the steps that this call took."""
    from lightning.pytorch.callbacks import Callback
    from nemo import lightning as nl
    from nemo.collections import llm
    from nemo.lightning.io import load_context

    losses = []

    class Losses(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            losses.append(float(trainer.callback_metrics["reduced_train_loss"]))

    model = load_context(imported, subpath="model")
    options = {
        "data": data_module(folder, model.tokenizer),
        "trainer": trainer(num_steps),
        "log": nl.NeMoLogger(
            log_dir=str(folder / "logs"),
            name="tune" if adapter else "pretrain",
            use_datetime_version=False,
            ckpt=nl.ModelCheckpoint(save_last=True, save_top_k=0, save_optim_on_train_end=True, filename="{step}"),
        ),
        "optim": optimizer(),
        "resume": nl.AutoResume(
            resume_if_exists=True,
            resume_ignore_no_checkpoint=True,
            restore_config=nl.RestoreConfig(path=str(imported)),
        ),
    }
    # Not an argument of the trainer: NeMo writes those beside each checkpoint, and a local class cannot be written.
    options["trainer"].callbacks.append(Losses())
    if adapter:
        llm.finetune(model, peft=adapter, **options)
    else:
        llm.pretrain(model, **options)
    return losses


def data_module(folder: Path, tokenizer: Any) -> Any:
    from nemo.collections import llm

    return llm.PreTrainingDataModule(
        paths={split: [str(folder / "tokens")] for split in ("train", "validation", "test")},
        seq_length=SEQUENCE_LENGTH,
        micro_batch_size=2,
        global_batch_size=2,
        num_workers=0,
        persistent_workers=False,
        tokenizer=tokenizer,
        index_mapping_dir=str(folder / "index"),
    )


def trainer(num_steps: int) -> Any:
    import torch
    from nemo import lightning as nl

    return nl.Trainer(
        devices=1,
        accelerator="cpu",
        max_steps=num_steps,
        limit_val_batches=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        strategy=nl.MegatronStrategy(ddp="megatron", pipeline_dtype=torch.float32, ckpt_async_save=False),
        plugins=nl.MegatronMixedPrecision(precision="32"),
    )


def optimizer() -> Any:
    from megatron.core.optimizer import OptimizerConfig
    from nemo import lightning as nl

    return nl.MegatronOptimizerModule(
        config=OptimizerConfig(optimizer="adam", lr=1e-2, use_distributed_optimizer=False, bf16=False, fp16=False)
    )


if __name__ == "__main__":  # Megatron's saving starts processes that import this file again
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
