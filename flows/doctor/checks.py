"""`tsuzuki doctor`: what this machine lacks for a recipe, found before hours are spent."""

from __future__ import annotations

import importlib.util
import netrc
import os
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from data_contracts.errors import MissingPackage, TsuzukiError
from flows.doctor.disk_estimate import disk_estimate
from flows.doctor.outside import (
    NEMO_PACKAGES,
    packages_of,
    saved_blocks,
    server_version,
    tested_versions,
    without_password,
)
from flows.engines import find_engines
from flows.recipes import PipelineConfig
from infra.credentials import SECRET_BLOCKS, Credentials
from infra.settings import Settings
from tasks.runtime import Runtime
from tasks.store import LIBRARIES
from tasks.training.config import LoraConfig, PretrainConfig
from tasks.training.executors import executor_of
from tasks.training.running import check_layout, interpreter_of

State = Literal["ok", "note", "missing"]
EXTRAS = {"word_count": (("fugashi", "unidic_lite"), "words"), "perplexity": (("kenlm",), "perplexity")}
"""Packages that a filter needs, and the extra that brings them."""
PROGRAMS = {"docker": "docker", "slurm": "sbatch"}


class Finding(NamedTuple):
    """One thing looked at. `missing` stops a run; `note` may matter."""

    name: str
    state: State
    found: str
    hint: str = ""


def examine(
    settings: Settings, config: PipelineConfig | None, credentials: Credentials, gpus: list[str]
) -> list[Finding]:
    """Everything that a run of this config needs, or any run if None."""
    found = [_packages(), _worker(settings), _store(settings.store)]
    found += [*_executor(settings, config), _nemo(settings, config), _gpu(settings, config, gpus)]
    found += _engines(settings, config, gpus)
    if config is not None:
        found += [*_filters(config), *_local_paths(config), _disk(settings.store, config)]
    return [*found, *_tokens(config, credentials), _server(credentials)]


def _packages() -> Finding:
    lines = metadata.requires("tsuzuki") or []
    names = [re.split(r"[\[ ;=<>!~]", line)[0] for line in lines if "extra ==" not in line]
    present = {name: version for name in names if (version := _version(name))}
    absent = [name for name in names if name not in present]
    if absent:
        return Finding("packages", "missing", f"no {', '.join(absent)}", f"{sys.executable} -m pip install tsuzuki")
    told = ", ".join(f"{name} {present[name]}" for name in LIBRARIES if name in present)
    return Finding("packages", "ok", f"Python {sys.version.split()[0]}, {told}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _worker(settings: Settings) -> Finding:
    if os.access(settings.worker_python, os.X_OK):
        return Finding("worker interpreter", "ok", str(settings.worker_python))
    hint = "set TSUZUKI_WORKER_PYTHON to an interpreter with this package, or unset it"
    return Finding("worker interpreter", "missing", f"{settings.worker_python} is no program", hint)


def _trainings(config: PipelineConfig | None) -> dict[str, PretrainConfig | LoraConfig]:
    return {} if config is None else {"pretrain": config.pretrain, "lora": config.lora}


def _nemo(settings: Settings, config: PipelineConfig | None) -> Finding:
    """NeMo's interpreter, which only a training on backend nemo needs."""
    needed = any(training.backend == "nemo" for training in _trainings(config).values())
    absent: State = "missing" if needed else "note"
    name = "NeMo interpreter"
    try:
        python = interpreter_of("nemo", Runtime(store=settings.store, nemo_python=settings.nemo_python))
    except MissingPackage as error:
        return Finding(name, absent, "TSUZUKI_NEMO_PYTHON is not set", error.hint)
    try:
        versions = packages_of(python, NEMO_PACKAGES)
    except TsuzukiError as error:
        return Finding(name, absent, error.message, error.hint)
    lacks = [package for package in NEMO_PACKAGES if package not in versions]
    if lacks:
        return Finding(name, absent, f"{python} has no {', '.join(lacks)}", "make nemo-env, or add them there")
    told = ", ".join(f"{package} {version}" for package, version in versions.items())
    tested = tested_versions()
    others = [f"{p} {tested[p]}" for p, version in versions.items() if tested.get(p, version) != version]
    hint = f"tested with {', '.join(others)}" if others else ""
    return Finding(name, "note" if others else "ok", told, hint)


def _executor(settings: Settings, config: PipelineConfig | None) -> list[Finding]:
    """The block of TSUZUKI_EXECUTOR, its layout against the config's, and the program that it starts."""
    name = "executor"
    try:
        block = executor_of(settings.executor)
        for training in _trainings(config).values():
            check_layout(training, block)
    except TsuzukiError as error:
        return [Finding(name, "missing", error.message, error.hint)]
    program = None if getattr(block, "tunnel", None) else PROGRAMS.get(block.kind)
    if program and shutil.which(program) is None:
        return [Finding(name, "missing", f"{block.kind}: no program `{program}`", f"install {program} or change kind")]
    layout = block.layout
    return [Finding(name, "ok", f"{block.kind}, {layout.nodes} x {layout.processes_per_node} processes")]


def _gpu(settings: Settings, config: PipelineConfig | None, gpus: list[str]) -> Finding:
    """GPUs of this machine against those that the trainings and the evaluation take here."""
    elsewhere = settings.executor.get("kind") in ("slurm", "skypilot")
    wanted: dict[str, int] = {}
    for name, training in _trainings(config).items():
        if training.device == "cuda" and not (training.nemo and elsewhere):
            wanted[name] = training.nemo.num_gpus if training.nemo else 1
    if config is not None and config.evaluate.device == "cuda":
        wanted["evaluate"] = 1
    told = "; ".join(gpus) or "none seen"
    if len(gpus) < max(wanted.values(), default=0):
        hint = "run where nvidia-smi shows enough, or set their device to cpu"
        return Finding("GPU", "missing", f"{told}; asked for: {_counts(wanted)}", hint)
    return Finding("GPU", "ok", told)


def _counts(wanted: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in wanted.items())


def _engines(settings: Settings, config: PipelineConfig | None, gpus: list[str]) -> list[Finding]:
    """The engine that TSUZUKI_ENGINE selects, and the real Uzushio where a filter asks for it."""
    wanted = {"uzushio_jar"} & {getattr(step, "filter", "") for step in config.filters.cascade} if config else set()
    return [
        Finding(f"engine {e.name}", "ok" if e.installed else "missing", ", ".join(e.missing) or "installed", e.install)
        for e in find_engines(settings, gpus)
        if e.selected or e.name in wanted
    ]


def _filters(config: PipelineConfig) -> list[Finding]:
    found = []
    for name in dict.fromkeys(getattr(step, "filter", "") for step in config.filters.cascade):
        packages, extra = EXTRAS.get(name, ((), ""))
        absent = [package for package in packages if importlib.util.find_spec(package) is None]
        if absent:
            hint = f"pip install 'tsuzuki[{extra}]'"
            found.append(Finding(f"filter {name}", "missing", f"no {', '.join(absent)}", hint))
    return found


def _local_paths(config: PipelineConfig) -> list[Finding]:
    """Files of this machine that the config names."""
    from glob import glob

    paths = {
        "source.path": getattr(config.source, "path", None),
        "model.path": config.model.path,
        "instructions.path": config.instructions.path,
    }
    return [
        Finding(
            key, "ok" if (there := bool(glob(str(path)))) else "missing", str(path), "" if there else f"set `{key}`"
        )
        for key, path in paths.items()
        if path is not None
    ]


def _store(store: Path) -> Finding:
    folder = _existing(store)
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return Finding("store", "ok", str(store.absolute()))
    return Finding(
        "store",
        "missing",
        f"{folder} is no folder that can be written",
        "set TSUZUKI_STORE or --store to another folder",
    )


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _disk(store: Path, config: PipelineConfig) -> Finding:
    """Free space against the estimate; what the store already holds counts as free, for much of it may be reused."""
    estimate = disk_estimate(config)
    free = shutil.disk_usage(_existing(store)).free
    held = sum(p.lstat().st_size for p in store.rglob("*") if p.is_file()) if store.is_dir() else 0
    parts = ", ".join(f"{name} {_size(size)}" for name, size in estimate.parts.items())
    told = f"{_size(free)} free; from nothing about {_size(estimate.total)} ({parts})"
    told += f"; not known: {', '.join(estimate.unknown)}" if estimate.unknown else ""
    if free + held < estimate.total:
        hint = "free space, `tsuzuki prune`, put the store on another disk, or keep fewer checkpoints"
        return Finding("disk", "missing", told, hint)
    return Finding("disk", "note" if estimate.unknown else "ok", told)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"


def _tokens(config: PipelineConfig | None, credentials: Credentials) -> list[Finding]:
    """Which tokens are set, here or as a block on the server: names, never values."""
    where = dict.fromkeys(saved_blocks(credentials), "a block on the server")
    if _in_netrc("api.wandb.ai"):
        where["WANDB_API_KEY"] = "in netrc"
    where |= {name: "set" for name in SECRET_BLOCKS if credentials.holds(name)}
    online = config is not None and config.wandb.mode == "online"
    hints = {
        "WANDB_API_KEY": "wandb.mode online needs it",
        "HF_TOKEN": "only private or gated models and data need it",
        "GITLAB_TOKEN": "LLM-JP's corpus is public; only a mirror may need it",
    }
    absent: dict[str, State] = {"WANDB_API_KEY": "missing" if online else "note"}
    return [
        Finding(name, "ok", where[name]) if name in where else Finding(name, absent.get(name, "note"), "not set", hint)
        for name, hint in hints.items()
    ]


def _in_netrc(host: str) -> bool:
    """Whether `wandb login` left a key."""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _server(credentials: Credentials) -> Finding:
    name, ours = "Prefect server", metadata.version("prefect")
    if credentials.prefect_api_url is None:
        return Finding(name, "ok", f"a temporary one for each run, {ours}")
    try:
        version = server_version(credentials)
    except TsuzukiError as error:
        return Finding(name, "missing", error.message, error.hint)
    if version != ours:
        return Finding(name, "note", f"version {version}, this machine has {ours}", "use the same on both")
    return Finding(name, "ok", f"{without_password(credentials.prefect_api_url)}, {version}")
