"""A Hugging Face folder as a NeMo checkpoint, proved by converting it back; runs in NeMo's interpreter."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from data_contracts.errors import MissingPackage, StorageError, UnprovenWeightsError
from tasks.models.architectures import NemoConnector
from tasks.models.config import NemoImportConfig
from tasks.models.folders import model_files
from tasks.models.nemo_export import exported_tensors
from tasks.models.nemo_folder import connector_for, make_view
from tasks.worker import Emit


def import_model(config: dict[str, Any], model: str, folder: str, *, emit: Emit) -> dict[str, Any]:
    """The worker's side of stage `nemo_checkpoint`: counts and proofs of the import, as JSON."""
    import_config = NemoImportConfig.model_validate(config)
    return import_checkpoint(Path(model), Path(folder), emit, free_disk_ratio=import_config.free_disk_ratio)


def import_checkpoint(model: Path, folder: Path, emit: Emit, *, free_disk_ratio: float = 3.0) -> dict[str, Any]:
    """Writes `weights/` and `context/` of the model to `folder`; counts and proofs of it.

    Raises SourceError, ModelError or MissingPackage for a model that NeMo cannot take here, StorageError for a disk
    with less than free_disk_ratio times the weights free, and UnprovenWeightsError unless every tensor comes back bit
    for bit.
    """
    check_disk(model, folder, free_disk_ratio)
    with tempfile.TemporaryDirectory(prefix="tsuzuki-view-") as place:
        view = Path(place)
        connector = connector_for(model, make_view(model, view))
        emit("progress", step="import")
        _import(connector, view, folder)
    emit("progress", step="prove")
    return _proved(model, folder)


def check_disk(model: Path, folder: Path, free_disk_ratio: float) -> None:
    """Raises StorageError where the disk of `folder` has too little room."""
    num_bytes = sum((model / name).stat().st_size for name in model_files(model) if name.endswith(".safetensors"))
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < free_disk_ratio * num_bytes:
        raise StorageError(
            f"`{folder}`: {free / 1e9:.1f} GB are free, expected {free_disk_ratio:g} times the model's "
            f"{num_bytes / 1e9:.1f} GB",
            hint="the import takes as much as the model, and each checkpoint of a training more; free space, or lower "
            "free_disk_ratio",
        )


def _import(connector: NemoConnector, view: Path, folder: Path) -> None:
    from tasks.training.nemo_compat import prepare

    os.environ["HF_HUB_OFFLINE"] = "1"  # read on import; a local path would cost a minute of retries without it
    prepare()
    from tasks.models.nemo_connectors import has_engine, importer

    if connector.needs_engine and not has_engine():
        raise MissingPackage(
            f"`{connector.model}`: transformer_engine cannot be imported, and NeMo has no other layers for this model",
            hint="install Transformer Engine (README, backend nemo), or use backend transformers",
        )

    importer(connector, view).apply(folder)


def _proved(model: Path, folder: Path) -> dict[str, Any]:
    tensors, num_parameters = exported_tensors(folder, model)
    for name in tensors.differences(model):
        raise UnprovenWeightsError(
            f"`{folder}`: {name} is not the model's after NeMo has saved it, expected every bit",
            hint="NeMo does not map this model exactly; use backend transformers",
        )
    expected = tensors.num_parameters
    if num_parameters != expected:
        raise UnprovenWeightsError(
            f"`{folder}`: NeMo has {num_parameters} parameters, the model has {expected}",
            hint="NeMo's model is another than the folder's; use backend transformers",
        )
    proofs = {"tensors_equal": len(tensors.tensors), "tied_embeddings": tensors.is_tied}
    return {"counts": {"parameters": num_parameters}, "proofs": proofs}
