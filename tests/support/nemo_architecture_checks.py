"""Run by NeMo's interpreter: `python nemo_architecture_checks.py MODELS_FOLDER FOLDER TARGET`.

Each model of MODELS_FOLDER is imported, exported, run on the ids of its `.logits` file to compare the logits there, and
trained for a few steps, in FOLDER; TARGET gets one JSON object by model's name: what came of it, or the error.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

NUM_STEPS = 3
TEXT = "ﾊﾝｶｸと全角　富士山は日本で一番高い山である。が👨‍👩‍👧"


def main(models: Path, folder: Path, target: Path) -> None:
    from tasks.training.nemo_compat import prepare

    os.chdir(folder)
    prepare()
    gc.freeze()  # NeMo collects garbage at the end of each model, half a second among all that it imports
    result = {}
    for model in sorted(path for path in models.iterdir() if path.is_dir()):
        for name in [name for name in os.environ if name.startswith("NVTE_")]:
            del os.environ[name]  # Megatron sets them by the model's kind of attention, once for a process
        result[model.name] = checked(model, folder / model.name)
        target.write_text(json.dumps(result), encoding="utf-8")


def checked(model: Path, folder: Path) -> dict[str, Any]:
    from data_contracts.errors import TsuzukiError
    from tasks.models.nemo_export import export_checkpoint
    from tasks.models.nemo_import import import_checkpoint

    events: list[str] = []
    try:
        proofs = import_checkpoint(model, folder / "nemo", lambda event, **fields: events.append(fields["step"]))
        export_checkpoint(folder / "nemo", model, folder / "exported")
        return {**proofs, "events": events, **run(model, folder / "nemo")}
    except TsuzukiError as error:
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint}


def run(model: Path, checkpoint: Path) -> dict[str, Any]:
    """Largest difference of a logit between NeMo and transformers, and NeMo's losses of a few steps."""
    import torch
    from safetensors.torch import load_file

    from tasks.models.nemo_connectors import end, loaded

    saved = load_file(model.with_suffix(".logits"))  # by the other environment's transformers
    ids, expected = saved["ids"], saved["logits"]
    nemo, trainer = loaded(checkpoint)
    batch = {
        "input_ids": ids,
        "position_ids": torch.arange(ids.shape[1]).expand_as(ids),
        "attention_mask": torch.triu(torch.ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool), diagonal=1),
    }
    nemo.eval()
    with torch.no_grad():
        found = nemo(**batch)
    difference = float((found - expected).abs().max() / expected.abs().max())
    result = {"logits_difference": difference, **trained(nemo, batch), **described(nemo)}
    end(trainer)
    return result


def trained(nemo: Any, batch: dict[str, Any]) -> dict[str, Any]:
    import torch

    nemo.train()
    optimizer = torch.optim.AdamW(nemo.parameters(), lr=1e-2)
    losses = []
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        loss = nemo(**batch, labels=batch["input_ids"].roll(-1, 1)).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    without = [name for name, weight in nemo.named_parameters() if weight.grad is None or not weight.grad.any()]
    return {"losses": losses, "without_gradient": without}


def described(nemo: Any) -> dict[str, Any]:
    config = nemo.config
    return {
        "seq_length": config.seq_length,
        "vocab_size": config.vocab_size,
        "shared": config.share_embeddings_and_output_weights,
        "generation": config.generation_config.to_diff_dict(),
        "text": TEXT,
        "tokenizer_ids": nemo.tokenizer.text_to_ids(TEXT),
    }


if __name__ == "__main__":  # Megatron's saving starts processes that import this file again
    main(*(Path(argument).resolve() for argument in sys.argv[1:]))
