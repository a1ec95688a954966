"""NeMo 2 checkpoint folders judged by their content: whether one is whole, how far it is, and which is the newest.

`weights/` is what megatron-core saves (`.metadata`, `__*.distcp`, `common.pt`, `metadata.json`), `context/` what NeMo
needs to build the model again. Neither NeMo nor torch is needed to read them, and nothing that a pickle names is run.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tasks.training.inert_pickle import load_inert_torch, loads_inert

WEIGHTS, CONTEXT = "weights", "context"
PLAN, SEAL, COMMON, ADAPTER = ".metadata", "metadata.json", "common.pt", "adapter_metadata.json"
UNFINISHED_SUFFIX = "-unfinished"
BACKEND = "torch_dist"
PRUNING_PREFIX = ".pruning-"
ZIP_START, ZIP_END, ZIP_END_BYTES = b"PK\x03\x04", b"PK\x05\x06", 22
"""Each tensor is a zip file of its own within a `.distcp`; its last record has 22 bytes."""


class Position(NamedTuple):
    """How far the training was when it wrote a checkpoint; both are 0 in one that was imported and never trained."""

    step: int
    consumed_samples: int


class CheckpointSize(NamedTuple):
    num_bytes: int
    modified_at: datetime
    """Date of its newest file, UTC."""


def is_nemo_checkpoint(path: Path) -> bool:
    """Whether a folder is a NeMo 2 checkpoint, whole or not; it may well be a beginning of one."""
    weights = path / WEIGHTS
    if not weights.is_dir():
        return False
    marks = (weights / PLAN, weights / SEAL, weights / COMMON, path / CONTEXT / "io.json")
    return any(mark.is_file() for mark in marks) or any(weights.glob("__*.distcp"))


def is_adapter(path: Path) -> bool:
    """Whether a NeMo checkpoint holds only an adapter, whose base lies elsewhere."""
    return (path / WEIGHTS / ADAPTER).is_file()


def adapter_base(path: Path) -> Path:
    """The NeMo checkpoint that an adapter's one was trained on. Raises OSError or ValueError where it does not say."""
    try:
        base = Path(json.loads((path / WEIGHTS / ADAPTER).read_bytes())["model_ckpt_path"])
    except (TypeError, KeyError) as error:
        raise ValueError(f"{ADAPTER}: {type(error).__name__}: {error}, expected `model_ckpt_path`") from error
    return base.parent if base.name == WEIGHTS else base


def damage(path: Path) -> str | None:
    """What a checkpoint folder lacks, or None for one that can be loaded.

    Names, shares and the borders of every stored tensor are checked, and the checksums of `common.pt`; a bit that
    changed within a tensor is not seen, since nothing in the format would tell.
    """
    try:
        return next(_lacks(path), None)
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def position(path: Path) -> Position:
    """Step and samples stored inside a checkpoint. Raises OSError or ValueError where `common.pt` cannot be read."""
    common = load_inert_torch(path / WEIGHTS / COMMON)
    if not isinstance(common, dict):
        raise ValueError(f"`{COMMON}` holds {type(common).__name__}, expected a dict")
    # The data module's state lies under the name of its class, whatever that is.
    states = [common, *(value for value in common.values() if isinstance(value, dict))]
    samples = [state["consumed_samples"] for state in states if isinstance(state.get("consumed_samples"), int)]
    step = common.get("global_step")
    return Position(step if isinstance(step, int) else 0, max(samples, default=0))


def size(path: Path) -> CheckpointSize:
    """Bytes of all files in a folder, and the date of the newest."""
    found = [file.stat() for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    newest = max((entry.st_mtime for entry in found), default=path.stat().st_mtime)
    return CheckpointSize(sum(entry.st_size for entry in found), datetime.fromtimestamp(newest, UTC))


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints right below a folder, whole or not, by name; links to others of them are left out."""
    if not folder.is_dir():
        return []
    visible = (path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_symlink())
    return sorted(path for path in visible if path.is_dir() and is_nemo_checkpoint(path))


def latest_complete(folder: Path, on_damage: Callable[[str], None] = lambda message: None) -> Path | None:
    """The whole checkpoint right below a folder that is furthest by what stands inside it, or None.

    on_damage gets a message for each one that is passed over. Nothing is deleted.
    """
    whole = _whole(folder, on_damage)
    return whole[-1] if whole else None


def prune(folder: Path, keep: int) -> list[Path]:
    """Deletes all but the `keep` (at least 1) furthest whole checkpoints; returns what is gone.

    Of the damaged ones those go that are older than the newest whole one: a newer one may be in the making. A kill
    leaves no half checkpoint behind, only a hidden folder that the next call removes.
    """
    assert keep >= 1
    for leftover in folder.glob(f"{PRUNING_PREFIX}*"):
        shutil.rmtree(leftover)
    whole = _whole(folder)
    if not whole:
        return []
    newest = size(whole[-1]).modified_at
    damaged = [p for p in checkpoints(folder) if p not in whole and size(p).modified_at < newest]
    gone = [*whole[:-keep], *damaged]
    for path in gone:
        discard(path)
    return gone


def discard(path: Path) -> None:
    """Deletes a checkpoint, its unfinished marker and the links to it: out of sight with one rename first."""
    for link in path.parent.iterdir():
        if link.is_symlink() and link.resolve() == path.resolve():
            link.unlink()
    aside = path.with_name(PRUNING_PREFIX + path.name)
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    shutil.rmtree(aside)
    _marker(path).unlink(missing_ok=True)


def _whole(folder: Path, on_damage: Callable[[str], None] = lambda message: None) -> list[Path]:
    """Whole checkpoints, the furthest last; of two equally far ones the one written later."""
    found = []
    for path in checkpoints(folder):
        if lack := damage(path):
            on_damage(f"`{path.name}`: {lack}; passed over")
        else:
            found.append((position(path), size(path).modified_at, path))
    return [path for *_, path in sorted(found)]


def _marker(path: Path) -> Path:
    """The file that NeMo keeps beside a checkpoint while it writes or deletes it."""
    return path.with_name(path.name.removesuffix("-EMA") + UNFINISHED_SUFFIX)


def _lacks(path: Path) -> Iterator[str]:
    """Everything that is wrong, the cheapest to find first."""
    for place in dict.fromkeys((path, path.resolve())):
        if _marker(place).exists():
            yield f"NeMo's marker {_marker(place).name} lies beside it: its writing or deleting was not finished"
    weights = path / WEIGHTS
    missing = [name for name in (SEAL, PLAN, COMMON) if not (weights / name).is_file()]
    if missing:
        yield f"{WEIGHTS}/ lacks {', '.join(missing)}: its writing was not finished"
        return
    yield from _foreign(weights / SEAL)
    try:
        position(path)
    except ValueError as error:
        yield f"{COMMON}: {error}"
    yield from _short_files(weights)
    yield from _unreadable_context(path / CONTEXT)


def _foreign(seal: Path) -> Iterator[str]:
    try:
        backend = json.loads(seal.read_bytes())["sharded_backend"]
    except (ValueError, TypeError, KeyError) as error:
        yield f"{SEAL}: {type(error).__name__}: {error}, expected the format's name"
        return
    if backend != BACKEND:
        yield f"{SEAL}: found the format {backend}, expected {BACKEND}"


def _short_files(weights: Path) -> Iterator[str]:
    """A line for each data file that does not hold, within its length, all that `.metadata` says lies in it."""
    try:
        stored = _stored(weights / PLAN)
    except ValueError as error:
        yield f"{PLAN}: {error}"
        return
    for name, entries in sorted(stored.items()):
        path = weights / name
        if not path.is_file():
            yield f"{name} is missing, {len(entries)} tensors lie in it"
            continue
        found, expected = path.stat().st_size, max(offset + length for offset, length in entries)
        if found < expected:
            yield f"{name} holds {found} bytes, expected {expected}"
        elif (broken := _first_torn(path, entries)) is not None:
            yield f"{name}: what should lie at byte {broken} was never written, or is cut short"


def _stored(plan: Path) -> dict[str, list[tuple[int, int]]]:
    """(offset, length) of all that is stored, by file. Raises ValueError unless every tensor has its place."""
    metadata = loads_inert(plan.read_bytes())
    data = getattr(metadata, "storage_data", None)
    tensors = getattr(metadata, "state_dict_metadata", None)
    if not isinstance(data, dict) or not isinstance(tensors, dict) or not data:
        raise ValueError("found no storage entries, expected what torch.distributed.checkpoint writes")
    if absent := set(tensors) - {getattr(index, "fqn", None) for index in data}:
        raise ValueError(f"{len(absent)} tensors have no place in any file ({min(absent)}, …)")
    stored = defaultdict(list)
    for entry in data.values():
        values: tuple[Any, ...] = tuple(getattr(entry, name, None) for name in ("relative_path", "offset", "length"))
        if not (isinstance(values[0], str) and all(isinstance(value, int) and value >= 0 for value in values[1:])):
            raise ValueError(f"found a storage entry {values}, expected a file name, an offset and a length")
        stored[values[0]].append(values[1:])
    return dict(stored)


def _first_torn(path: Path, entries: list[tuple[int, int]]) -> int | None:
    """Offset of the first entry without a beginning or an end: a crash can leave a file of full length and no data."""
    with open(path, "rb") as file:
        for offset, length in sorted(entries):
            file.seek(offset)
            start = file.read(len(ZIP_START))
            if length and not any(start):
                return offset
            if start == ZIP_START:
                file.seek(max(offset, offset + length - ZIP_END_BYTES))
                if file.read(len(ZIP_END)) != ZIP_END:
                    return offset
    return None


def _unreadable_context(context: Path) -> Iterator[str]:
    try:
        described = json.loads((context / "io.json").read_bytes())
    except FileNotFoundError:
        yield f"{CONTEXT}/io.json is missing: the model cannot be built from it"
        return
    except ValueError as error:
        yield f"{CONTEXT}/io.json: {error}"
        return
    if not isinstance(described, dict) or not described:
        yield f"{CONTEXT}/io.json describes nothing"
