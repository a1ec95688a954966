"""Loads a model folder strictly: every weight from its safetensors files, none initialised, no code of it run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from data_contracts.errors import ModelError, UnprovenWeightsError

MAX_NAMES_SHOWN = 3


def prepare_torch(cpu_threads: int) -> None:
    """Makes this process's sums repeatable: fixed threads, deterministic kernels, no progress bars on stderr."""
    # cuBLAS reads this when it is initialised; without it its deterministic kernels refuse to run.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.set_num_threads(cpu_threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore - costs time, changes no result
    logging.disable_progress_bar()


def load_model(folder: Path, dtype: str = "auto", device: str = "cpu") -> PreTrainedModel:
    """The model of a folder, in evaluation mode.

    dtype: a torch dtype's name, or `auto` for that of the saved weights. Raises UnprovenWeightsError when a weight is
    missing, left over or of another shape (tied ones excepted), ModelError when the folder cannot be loaded at all.
    """
    loader: Any = AutoModelForCausalLM
    try:
        model, info = loader.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        kind = UnprovenWeightsError if "size mismatch" in str(error) or "mismatched" in str(error) else ModelError
        raise kind(
            f"`{folder}`: cannot be loaded: {type(error).__name__}: {_first_line(error)}",
            hint="the folder must hold a causal language model that this transformers knows; remote code is not run",
        ) from error
    _refuse_gaps(folder, info)
    return model.to(device).eval()


def _refuse_gaps(folder: Path, info: dict[str, Any]) -> None:
    gaps = {
        "missing": sorted(map(str, info["missing_keys"])),
        "left over": sorted(map(str, info["unexpected_keys"])),
        "of another shape": sorted(map(str, info["mismatched_keys"])),
        "failed": sorted(map(str, info.get("error_msgs") or ())),
    }
    found = [
        f"{len(n)} {kind} ({', '.join(n[:MAX_NAMES_SHOWN])}{', …' * (len(n) > MAX_NAMES_SHOWN)})"
        for kind, n in gaps.items()
        if n
    ]
    if found:
        raise UnprovenWeightsError(
            f"`{folder}`: weights {'; '.join(found)}; expected each weight of the architecture exactly once",
            hint="config.json and the safetensors files do not belong together; download or export the model again",
        )


def load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer of a model folder. Raises ModelError where there is none or it has no end token."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_fast=True)
    except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        raise ModelError(
            f"`{folder}`: its tokenizer cannot be loaded: {type(error).__name__}: {_first_line(error)}",
            hint="the folder must hold tokenizer.json or the files it can be made from",
        ) from error
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        lack = "no end-of-text token" if tokenizer.is_fast else "no fast tokenizer"
        raise ModelError(
            f"`{folder}`: found {lack}", hint="save the model with a tokenizer.json that names `eos_token`"
        )
    return tokenizer


def embedding_rows(model: PreTrainedModel) -> int:
    """Size of the vocabulary that the model has weights for."""
    embedding: Any = model.get_input_embeddings()
    return embedding.num_embeddings


def context_length(model: PreTrainedModel) -> int:
    """Tokens that the model can see at once, by its config."""
    return int(model.config.get_text_config().max_position_embeddings)


def is_tied(model: PreTrainedModel) -> bool:
    """Whether embedding and head are one tensor in memory."""
    head: Any = model.get_output_embeddings()
    embedding: Any = model.get_input_embeddings()
    return head is not None and head.weight.data_ptr() == embedding.weight.data_ptr()


def num_parameters(model: PreTrainedModel) -> int:
    """Parameters of the model; a tied matrix counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")
