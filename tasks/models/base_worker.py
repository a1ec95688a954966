"""The worker's side of stage `base_model`: fetch, copy or make a model folder, then prove what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.models.config import ModelConfig
from tasks.models.folders import check_model_files, copy_model, model_files
from tasks.models.hub import check_hashes, fetch_snapshot
from tasks.models.loading import prepare_torch
from tasks.models.proofs import prove
from tasks.models.tiny import make_tiny
from tasks.worker import Emit


def bring_and_prove(
    config: dict[str, Any], folder: str, source_folder: str | None = None, *, emit: Emit
) -> dict[str, Any]:
    """Fills `folder` with the model of that ModelConfig; the entries of its files, counts and proofs.

    source_folder: absolute path of source `local`.
    """
    model_config, target = ModelConfig.model_validate(config), Path(folder)
    prepare_torch(model_config.cpu_threads)
    emit("progress", step="bring")
    entries, origin = [], {}
    if model_config.source == "tiny":
        make_tiny(model_config.tiny, target)
    else:
        if source_folder:
            source = Path(source_folder)
        else:
            source, commit = fetch_snapshot(model_config.source, model_config.endpoint)
            origin = {"commit": commit}
        names = model_files(source)
        check_model_files(source)
        entries = copy_model(source, target, names)
        if origin:
            check_hashes(source, entries)
    check_model_files(target)
    emit("progress", step="prove")
    counts, proofs = prove(target, must_be_pretrained=model_config.must_be_pretrained)
    return {"files": [entry.model_dump() for entry in entries], "counts": counts, "proofs": {**origin, **proofs}}
