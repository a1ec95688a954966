"""Hugging Face model folders as files: which of them belong to a model, whether they are whole, and copying them."""

from __future__ import annotations

import json
import struct
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from data_contracts.errors import ModelError, SourceError
from data_contracts.files import READ_SIZE_BYTES, FileEntry, HashingFile

TOKENIZER_PATTERNS = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "*.model",
    "chat_template.*",
)
MODEL_PATTERNS = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "LICENSE*",
    "NOTICE*",
    *TOKENIZER_PATTERNS,
)
FOREIGN_PATTERNS = ("consolidated*", "adapter_model*", "*/*")
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TORCH_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}
POINTER_START = b"version https://git-lfs"


def model_files(folder: Path) -> list[str]:
    """Names of the files of a model folder that are taken over, sorted.

    Raises SourceError for a folder that is absent, holds an adapter, or has only pickled weights.
    """
    if not folder.is_dir():
        raise SourceError(
            f"`{folder}`: no such folder, expected a Hugging Face model",
            hint="a model is `tiny`, `hf://org/name[@revision]`, or the path of a folder",
        )
    present = sorted(p.name for p in folder.iterdir() if p.is_file())
    names = [n for n in present if _fits(n, MODEL_PATTERNS) and not _fits(n, FOREIGN_PATTERNS)]
    if "config.json" not in names:
        what = "a peft adapter" if "adapter_config.json" in present else f"{len(present)} files but no config.json"
        raise SourceError(
            f"`{folder}`: found {what}, expected a Hugging Face model", hint="name the folder of a whole model"
        )
    if not any(n.endswith(".safetensors") for n in names):
        pickles = [n for n in present if _fits(n, PICKLE_PATTERNS)]
        found = f"only pickled weights ({', '.join(pickles)})" if pickles else "no weights"
        raise SourceError(
            f"`{folder}`: found {found}, expected *.safetensors",
            hint="pickles can run code when loaded and are refused; save the model again with save_pretrained",
        )
    return names


def check_model_files(folder: Path) -> None:
    """Raises ModelError for a config that cannot be read, a missing shard or a safetensors file that is not whole."""
    read_json(folder / "config.json")
    for index in folder.glob("*.safetensors.index.json"):
        shards = set(read_json(index).get("weight_map", {}).values())
        if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
            raise ModelError(
                f"`{index}`: {len(missing)} of {len(shards)} shards are missing ({missing[0]}, …)",
                hint="download or copy the model again",
            )
    for path in sorted(folder.glob("*.safetensors")):
        tensor_shapes(path)


def tensor_shapes(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of each tensor of a safetensors file, from its header, once the file's size fits the header.

    Raises ModelError for a truncated, overlong or foreign file.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        if len(start) < 8 or POINTER_START.startswith(start):
            is_pointer = len(start) == 8
            found = "a Git LFS pointer" if is_pointer else f"{size} bytes"
            raise ModelError(
                f"`{path}`: found {found}, expected safetensors weights",
                hint="run `git lfs pull` in that folder" if is_pointer else "download or copy the file again",
            )
        length = struct.unpack("<Q", start)[0]
        try:
            header = json.loads(file.read(length)) if length < size else {}
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            expected = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ModelError(
                f"`{path}`: its header is not that of a safetensors file", hint="download or copy the file again"
            ) from None
    if size != expected or not tensors:
        raise ModelError(
            f"`{path}`: found {size} bytes, its header accounts for {expected}",
            hint="the file was cut short or changed; download or copy it again",
        )
    return {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in tensors.items()}


def saved_dtype(folder: Path) -> str:
    """The torch name of the type that most tensors of a folder's safetensors files are saved in."""
    tensors = [t for path in sorted(folder.glob("*.safetensors")) for t in tensor_shapes(path).values()]
    found = Counter(dtype for dtype, _ in tensors).most_common(1)[0][0]
    return TORCH_DTYPES.get(found, found)


def copy_model(source: Path, target: Path, names: list[str]) -> list[FileEntry]:
    """Byte copies of those files, hashed on the way.

    A copy and never a link: the user may change the folder later, and a sealed artifact must not change with it.
    """
    entries = []
    for name in names:
        with open(source / name, "rb") as reader, HashingFile(target / name) as writer:
            while chunk := reader.read(READ_SIZE_BYTES):
                writer.write(chunk)
        entries.append(writer.entry(name))
    return entries


def tokenizer_files(folder: Path) -> list[str]:
    """Names of the tokenizer's files in a model folder, sorted."""
    return sorted(p.name for p in folder.iterdir() if p.is_file() and _fits(p.name, TOKENIZER_PATTERNS))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ModelError where it is absent or no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"`{path}`: {error}; expected a JSON object", hint="download or copy the model again"
        ) from None
    if not isinstance(value, dict):
        raise ModelError(f"`{path}`: found {type(value).__name__}, expected a JSON object", hint="copy the model again")
    return value


def write_json(path: Path, value: Any) -> None:
    """Writes JSON with sorted keys, so that equal values give equal bytes."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
