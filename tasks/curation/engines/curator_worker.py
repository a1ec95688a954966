"""The Curator engine of the filter stage, in Curator's interpreter: a pipeline of read, cascade and write on Ray."""

# pyright: reportMissingImports=false
# ray and nemo_curator live in an environment of their own.
from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_contracts.errors import MissingPackage, TsuzukiError, UsageError, WorkerError
from tasks.job import PROJECT_ROOT
from tasks.worker import Emit

NEEDED = ("nemo_curator", "ray", "pyarrow", "numpy", "numba", "pydantic", "xxhash")
POLL_SECONDS = 0.2
CONNECT_SECONDS = 10
DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent home
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


def filter_shards(
    shards: list[str],
    config: dict[str, Any],
    folder: str,
    scratch: str,
    statistics: dict[str, str],
    current: str,
    workers: int,
    address: str | None,
    versions: dict[str, str],
    emit: Emit,
) -> dict[str, Any]:
    """Filters each shard; emits `shard` with the name of each that is done. Returns the versions that did it.

    current: folder that relative paths of the config start from. address: a Ray cluster whose machines see the same
    files; None starts Ray here, with `workers` cores, and ends it. versions: what must be the same here as in the
    parent. Raises what the steps raise.
    """
    check_interpreter(versions)
    os.chdir(current)  # Ray's workers start there too
    from nemo_curator.backends.ray_data import RayDataExecutor
    from nemo_curator.pipeline import Pipeline
    from nemo_curator.tasks import FileGroupTask
    from ray.data import DataContext

    from tasks.curation.config import FilterConfig
    from tasks.curation.engines.curator_stages import ShardReader, ShardWriter, TsuzukiCascade

    steps = FilterConfig.model_validate(config)
    stages = [ShardReader(), TsuzukiCascade(steps, statistics), ShardWriter(folder, scratch, steps)]
    tasks = [FileGroupTask(dataset_name="tsuzuki", data=[s], _metadata={"source_files": [s]}) for s in shards]
    records = {Path(shard).stem: Path(scratch, f"{Path(shard).stem}.json") for shard in shards}
    with _ray(workers, address), _told(records, emit):
        context = DataContext.get_current()
        # Read, cascade and write become one operator: cores kept back for others would do nothing.
        context.op_resource_reservation_enabled = False
        context.raise_original_map_exception = True  # else our errors arrive as text in one of Ray's
        try:
            Pipeline(name="tsuzuki-filter", stages=stages).run(RayDataExecutor(), initial_tasks=tasks)
        except Exception as error:
            _raise_cause(error, Path(folder))
            raise
    return {"versions": {name: _version(name) for name in ("nemo-curator", "ray")}}


def check_interpreter(versions: dict[str, str]) -> None:
    """Raises MissingPackage or UsageError unless this interpreter can do the work, and with the same bytes."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    hint = "`make curator` makes an environment that has all of it; TSUZUKI_CURATOR_PYTHON names its interpreter"
    if missing:
        raise MissingPackage(
            f"`{sys.executable}`: found no {', '.join(missing)}; the engine curator needs it", hint=hint
        )
    from tasks.curation.engines.curator import what_decides_bytes

    found = what_decides_bytes()
    if found != versions:
        raise UsageError(
            f"`{sys.executable}`: found {_listed(found)}, expected {_listed(versions)} as in the main environment; "
            "others would write other bytes",
            hint=hint,
        )


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


@contextmanager
def _ray(workers: int, address: str | None) -> Iterator[None]:
    """Ray, connected; what was started here is gone afterwards, also when this process is told to end."""
    os.environ.update({name: os.environ.get(name, value) for name, value in DEFAULTS.items()})
    os.environ["PYTHONPATH"] = str(PROJECT_ROOT)  # Ray's workers on this machine inherit it
    import ray

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with TemporaryDirectory(prefix="tsuzuki-ray-", ignore_cleanup_errors=True) as sessions, _guarded(sessions):
        try:
            if address:
                _connect(address)
            else:
                # A cluster that already runs here, or that RAY_ADDRESS names, is not ours to use.
                ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False, _temp_dir=sessions)
            yield
        finally:
            ray.shutdown()


def _connect(address: str) -> None:
    import ray

    try:
        _reach(address)  # Ray itself tries for minutes
        ray.init(address, runtime_env={"env_vars": {"PYTHONPATH": str(PROJECT_ROOT)}}, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise WorkerError(
            f"`{address}`: found no Ray cluster that takes us ({type(error).__name__}: {error})",
            hint="start one with `ray start --head`, with the same RAY_AUTH_MODE and RAY_AUTH_TOKEN there and here; or "
            "unset TSUZUKI_RAY_ADDRESS for one on this machine alone",
        ) from None


def _reach(address: str) -> None:
    """Raises OSError unless somebody listens at an address of host and port."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


@contextmanager
def _guarded(folder: str) -> Iterator[None]:
    """A process of its own group that cleans up where this one is killed."""
    words = [sys.executable, "-I", str(Path(__file__).with_name("ray_guard.py")), str(os.getpgrp()), folder]
    guard = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        guard.kill()  # before its input ends: it would end this process too
        guard.communicate()


@contextmanager
def _told(records: dict[str, Path], emit: Emit) -> Iterator[None]:
    """Emits the name of each shard once its record lies there; of all of them by the end."""
    waiting, over = dict(records), threading.Event()

    def tell() -> None:
        for name in [name for name, path in waiting.items() if path.exists()]:
            del waiting[name]
            emit("shard", shard=name)

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            tell()

    watcher = threading.Thread(target=watch, daemon=True, name="finished-shards")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        tell()


def _raise_cause(error: BaseException, folder: Path) -> None:
    """Raises the error of ours, or of the disk, that Ray wrapped; returns if there is none."""
    from tasks.storage_faults import storage_errors

    for cause in _causes(error):
        if isinstance(cause, TsuzukiError | OSError) and not _is_wrapper(cause):
            with storage_errors(folder):
                raise cause from None


def _causes(error: BaseException | None) -> Sequence[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return found


def _is_wrapper(error: BaseException) -> bool:
    return isinstance(getattr(error, "cause", None), BaseException)
