"""`tsuzuki checkpoints`: what a store or any folder holds that can be continued, loaded or handed over."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from data_contracts.artifacts import type_named, verify_files
from data_contracts.errors import ArtifactError, DamagedArtifact, MissingArtifact, TsuzukiError, UsageError
from data_contracts.manifest import MANIFEST_NAME, read_manifest
from tasks.locks import try_lock
from tasks.models.folders import check_model_files, model_files, read_json, tensor_shapes
from tasks.training import checkpoint_seal, nemo_checkpoints

TRANSFORMERS, NEMO, NEMO_ADAPTER = "transformers_checkpoint", "nemo_checkpoint", "nemo_adapter"
MODEL, ADAPTER, DELIVERY = "hf_model", "adapter", "delivery"
KINDS = (TRANSFORMERS, NEMO, NEMO_ADAPTER, MODEL, ADAPTER, DELIVERY)
SEALED_KINDS = (NEMO, MODEL, ADAPTER, DELIVERY)
VISITED_HIDDEN = (".partial", ".scratch")
WEIGHT_PATTERNS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")


class Checkpoint(NamedTuple):
    """A checkpoint, model or adapter as it was found.

    kind: one of KINDS. step: of the training that wrote it, None where there was none. consumed_samples: as far as it
    says. num_bytes, modified_at: of all its files, and of the newest. damage: why it cannot be used, None for a whole
    one. sealed: it is an artifact. held: a training that runs now may be writing it.
    """

    path: Path
    kind: str
    step: int | None
    consumed_samples: int
    num_bytes: int
    modified_at: datetime
    damage: str | None
    sealed: bool = False
    held: bool = False

    @property
    def order(self) -> tuple[int, int, datetime]:
        """Grows with how far the training was."""
        return self.step or 0, self.consumed_samples, self.modified_at


def find(root: Path, *, contents: bool = False) -> list[Checkpoint]:
    """All checkpoints of a store or folder, oldest first; of `root` alone if it is one itself.

    contents: read what has known hashes again, not sizes alone. Raises MissingArtifact for a folder that is absent.
    """
    if not root.is_dir():
        raise MissingArtifact(f"`{root}`: no such folder", hint="name a store, or any folder with checkpoints below it")
    return sorted(_walk(root, contents), key=lambda found: found.modified_at)


def latest(root: Path, kind: str | None = None, *, contents: bool = False) -> Checkpoint:
    """The newest whole checkpoint: of each training its furthest, and of those the one written last.

    Raises MissingArtifact where there is none, naming those that were passed over.
    """
    found = [one for one in find(root, contents=contents) if kind in (None, one.kind)]
    whole = [max(group, key=lambda one: one.order) for group in _groups(one for one in found if not one.damage)]
    if not whole:
        passed = "; ".join(f"{one.path.name}: {one.damage}" for one in found)
        raise MissingArtifact(
            f"`{root}`: found {passed or 'no checkpoint'}, expected a whole {kind or 'checkpoint'}",
            hint="`tsuzuki checkpoints list` says what lies there",
        )
    return max(whole, key=lambda one: one.modified_at)


def check_kind(kind: str | None) -> None:
    """Raises UsageError for a kind that does not exist."""
    if kind is not None and kind not in KINDS:
        raise UsageError(f"`{kind}`: no such kind, expected one of {', '.join(KINDS)}", hint="leave out --kind for all")


def describe(folder: Path, *, contents: bool = False) -> Checkpoint | None:
    """What that folder itself is, or None for no checkpoint. contents: as in `find`."""
    if (folder / MANIFEST_NAME).is_file() and (found := _artifact(folder, contents)):
        return found
    if any((folder / name).is_file() for name in (checkpoint_seal.SEAL, "parameters.safetensors")):
        lack = checkpoint_seal.damage(folder, contents=contents)
        return _unsealed(folder, TRANSFORMERS, checkpoint_seal.step(folder), lack)
    if nemo_checkpoints.is_nemo_checkpoint(folder):
        return _nemo(folder)
    if (folder / "adapter_config.json").is_file():
        return _unsealed(folder, ADAPTER, _trainer_step(folder), _refusal(_check_adapter, folder))
    if (folder / "config.json").is_file() and any(any(folder.glob(pattern)) for pattern in WEIGHT_PATTERNS):
        return _unsealed(folder, MODEL, _trainer_step(folder), _refusal(_check_model, folder))
    return None


def prunable(root: Path, keep_last: int, keep_every: int | None = None) -> list[Checkpoint]:
    """What a pruning would delete: of each training all but the `keep_last` furthest whole checkpoints.

    keep_every: those whose step is a multiple of it stay as well. A training's checkpoints lie side by side in one
    folder; what was never trained there (an imported or downloaded model) is no checkpoint of one. Never among them:
    artifacts, what a running training holds, and damaged ones newer than the newest whole one.
    """
    gone = []
    for group in _groups(one for one in find(root) if one.step and not one.sealed and not one.held):
        whole = sorted((one for one in group if not one.damage), key=lambda one: one.order)
        if not whole:
            continue
        gone += [one for one in whole[:-keep_last] if not (keep_every and (one.step or 0) % keep_every == 0)]
        gone += [one for one in group if one.damage and one.modified_at < whole[-1].modified_at]
    return gone


def delete(found: Checkpoint) -> bool:
    """Deletes a checkpoint as a whole; False, and nothing is touched, if a training holds it by now."""
    with _locked(found.path) as free:
        if free and found.path.is_dir():
            for leftover in found.path.parent.glob(f"{nemo_checkpoints.PRUNING_PREFIX}*"):
                shutil.rmtree(leftover)
            nemo_checkpoints.discard(found.path)
        return free


def as_text(found: list[Checkpoint]) -> str:
    """A table for people."""
    lines = [f"{'kind':<23} {'step':>8} {'size':>11}  {'date (UTC)':<16}  {'state':<8} path"]
    for one in found:
        state = "damaged" if one.damage else "sealed" if one.sealed else "held" if one.held else "whole"
        step = "" if one.step is None else f"{one.step:,}"
        size = f"{one.num_bytes / 1e6:,.1f} MB"
        lines.append(f"{one.kind:<23} {step:>8} {size:>11}  {one.modified_at:%Y-%m-%d %H:%M}  {state:<8} {one.path}")
        lines += [f"{'':<23} {one.damage}"] if one.damage else []
    return "\n".join(lines)


def as_values(one: Checkpoint) -> dict[str, Any]:
    """The same as plain JSON values."""
    values = one._asdict() | {"path": str(one.path), "modified_at": one.modified_at.isoformat(timespec="seconds")}
    return {**values, "whole": one.damage is None}


def _walk(root: Path, contents: bool) -> Iterator[Checkpoint]:
    for folder, names, _ in os.walk(root):
        # What lies in a partial result itself may be on the way to become an artifact.
        if Path(folder).parent.name != ".partial" and (found := describe(Path(folder), contents=contents)):
            names.clear()
            yield found
        names[:] = sorted(name for name in names if not name.startswith(".") or name in VISITED_HIDDEN)


def _groups(found: Iterable[Checkpoint]) -> list[list[Checkpoint]]:
    """Those of one training together; what is not of a training stands alone."""
    groups = defaultdict(list)
    for one in found:
        groups[one.path.parent if one.step and not one.sealed else one.path].append(one)
    return list(groups.values())


def _artifact(folder: Path, contents: bool) -> Checkpoint | None:
    """A sealed artifact of a kind that counts here; None for others, and for a manifest that is not ours."""
    try:
        manifest = read_manifest(folder)
    except DamagedArtifact as error:
        if not (folder.parent.parent / ".locks").is_dir():
            return None
        return _unsealed(folder, "artifact", None, error.message)._replace(sealed=True)
    if manifest.kind not in SEALED_KINDS:
        return None
    damage = None
    try:
        if contents:
            verify_files(folder)
        type_named(manifest.kind).open(folder)
    except ArtifactError as error:
        damage = error.message
    size, steps = sum(entry.bytes for entry in manifest.files), manifest.summary.counts.get("steps")
    return Checkpoint(folder, manifest.kind, steps, 0, size, manifest.created_at.astimezone(UTC), damage, sealed=True)


def _unsealed(folder: Path, kind: str, step: int | None, damage: str | None, samples: int = 0) -> Checkpoint:
    size = nemo_checkpoints.size(folder)
    held = _is_held(folder)
    return Checkpoint(folder, kind, step, samples, size.num_bytes, size.modified_at, damage, held=held)


def _nemo(folder: Path) -> Checkpoint:
    try:
        step, samples = nemo_checkpoints.position(folder)
    except (OSError, ValueError):
        step, samples = 0, 0  # the damage tells why
    kind = NEMO_ADAPTER if nemo_checkpoints.is_adapter(folder) else NEMO
    return _unsealed(folder, kind, step or None, nemo_checkpoints.damage(folder), samples)


def _trainer_step(folder: Path) -> int | None:
    """Step of a checkpoint that the Trainer of transformers wrote, which is a model folder with its state beside."""
    try:
        step = json.loads((folder / "trainer_state.json").read_bytes())["global_step"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return step if isinstance(step, int) else None


def _check_model(folder: Path) -> None:
    model_files(folder)
    check_model_files(folder)


def _check_adapter(folder: Path) -> None:
    read_json(folder / "adapter_config.json")
    tensor_shapes(folder / "adapter_model.safetensors")


def _refusal(check: Callable[[Path], None], folder: Path) -> str | None:
    try:
        check(folder)
    except (TsuzukiError, OSError) as error:
        return error.message if isinstance(error, TsuzukiError) else str(error)
    return None


def _lock_file(path: Path) -> Path | None:
    """The lock of the key that a folder is a partial result of; None outside of a store."""
    for folder in path.parents:
        if folder.parent.name == ".partial":
            return folder.parent.parent / ".locks" / folder.name.rpartition("-")[2]
    return None


def _is_held(path: Path) -> bool:
    lock = _lock_file(path)
    if lock is None or not lock.is_file():
        return False
    with _locked(path) as free:
        return not free


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Keeps trainings out of a partial result; yields whether that worked, which it does not while one runs."""
    lock = _lock_file(path)
    if lock is None:
        yield True
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)
