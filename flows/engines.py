"""`tsuzuki engines`: which engines are installed here, which stages each runs, and how to install the others."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from infra.settings import Settings
from tasks.curation.engines.curator import INSTALL_HINT
from tasks.stages import STAGES

NVIDIA_SMI_SECONDS = 20
GPU_QUERY = ("--query-gpu=name,memory.total", "--format=csv,noheader")


class Engine(NamedTuple):
    """An engine as it is found here.

    hardware: what it works on; stages: those whose jobs it runs; selected: whether TSUZUKI_ENGINE names it; missing:
    what it still needs, empty for an engine that can run; install: how to get that, empty where nothing is missing.
    """

    name: str
    hardware: str
    stages: tuple[str, ...]
    selected: bool
    missing: tuple[str, ...]
    install: str

    @property
    def installed(self) -> bool:
        return not self.missing


def find_engines(settings: Settings, gpus: list[str]) -> list[Engine]:
    """All engines; nothing of them is imported, so an installed one may still be broken."""
    no_gpu = () if gpus else ("an NVIDIA GPU",)
    of_cudf = ("cudf", "pylibcudf", "cupy", "rmm", *(("dask_cuda",) if len(gpus) > 1 else ()))
    found = {
        "local": ("CPU", (), ""),
        "dask": ("CPU, cluster", _absent("dask", "distributed"), "pip install 'tsuzuki[dask]'"),
        "cudf": ("NVIDIA GPU", _absent(*of_cudf) + no_gpu, "pip install 'tsuzuki[gpu]'"),
        "curator": ("CPU, cluster", _missing_of_curator(settings.curator_python), INSTALL_HINT),
    }
    engines = [
        Engine(name, hardware, _stages_of(name), settings.engine == name, missing, install if missing else "")
        for name, (hardware, missing, install) in found.items()
    ]
    return [*engines, _uzushio_jar(settings)]


def find_gpus() -> list[str]:
    """Name and memory of each GPU that nvidia-smi tells of; none where it is absent or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run([program, *GPU_QUERY], capture_output=True, text=True, timeout=NVIDIA_SMI_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def as_text(engines: list[Engine], gpus: list[str]) -> str:
    """The engines for people: a table, the GPUs, and what to do about each that is not installed."""
    lines = [f"GPU: {'; '.join(gpus) or 'none seen'}", f"{'engine':<13} {'installed':<9} {'works on':<12} stages"]
    for engine in engines:
        name = f"{engine.name}*" if engine.selected else engine.name
        installed = "yes" if engine.installed else "no"
        lines.append(f"{name:<13} {installed:<9} {engine.hardware:<12} {', '.join(engine.stages)}")
    lines.append("* is what TSUZUKI_ENGINE selects; stages that it does not run are run by local")
    lines += [f"{e.name}: missing {', '.join(e.missing)}; {e.install}" for e in engines if e.missing]
    return "\n".join(lines)


def as_values(engines: list[Engine], gpus: list[str]) -> dict[str, object]:
    """The same as plain JSON values."""
    return {"gpus": gpus, "engines": [{**engine._asdict(), "installed": engine.installed} for engine in engines]}


def _stages_of(engine: str) -> tuple[str, ...]:
    stages = tuple(stage.name for stage in STAGES.values() if engine in stage.engines)
    return ("all",) if len(stages) == len(STAGES) else stages


def _absent(*packages: str) -> tuple[str, ...]:
    return tuple(package for package in packages if find_spec(package) is None)


def _missing_of_curator(python: Path | None) -> tuple[str, ...]:
    if python is None:
        return ("TSUZUKI_CURATOR_PYTHON",)
    if not python.is_file():
        return (f"the interpreter {python}",)
    libraries = python.absolute().parent.parent / "lib"
    return tuple(p for p in ("nemo_curator", "ray", "numba") if not any(libraries.glob(f"python3.*/site-packages/{p}")))


def _uzushio_jar(settings: Settings) -> Engine:
    needed = {"TSUZUKI_SPARK_SUBMIT": settings.spark_submit, "TSUZUKI_UZUSHIO_JAR": settings.uzushio_jar}
    missing = tuple(name for name, path in needed.items() if path is None or not path.is_file())
    install = "build Uzushio and unpack Spark; then set both to their files" if missing else ""
    return Engine("uzushio_jar", "Spark", ("filter: its step of that name",), False, missing, install)
