"""Starts the processes of a NeMo training where the settings say, follows them, and leaves none behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from data_contracts import errors
from data_contracts.errors import TsuzukiError, WorkerError, WorkerLost
from tasks.locks import try_lock
from tasks.training import nemo_run_jobs, rank_process
from tasks.training.executors import Inline, Slurm, executor_of
from tasks.training.nemo_run_jobs import Launched
from tasks.worker import ORPHAN_GRACE_SECONDS

PROCESS = "tasks.training.nemo_process"
Emit = Callable[..., None]
LOOK_SECONDS = 0.2
STATE_SECONDS = {"torchrun": 0.5, "docker": 2.0, "skypilot": 30.0}
UNKNOWN_SECONDS = 300.0
EARLIER_SECONDS = 70.0
"""Beyond what the processes of an earlier launch may take to leave."""
RECORD_NAME = "launch.json"
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")
LOG_TAIL_LINES = 25
RETRY_HINT = "run the same command again; it continues from the last complete checkpoint"


def launch(
    job_path: Path,
    events: Path,
    executor: Inline | Launched,
    emit: Emit,
    module: str = PROCESS,
    grace_seconds: float = ORPHAN_GRACE_SECONDS,
) -> None:
    """Runs `module.main(job_path)` in every process that the executor asks for, and returns when all have ended well.

    Each whole JSON line that is added to `events` meanwhile goes to `emit`. An error of our tree that a process raised
    is raised here; any other end is WorkerLost with the tail of the log. On SIGTERM the job is told to checkpoint and
    leave, and cancelled shortly before `grace_seconds` are over. Call it from the main thread.
    """
    follower = Follower(events, emit)
    if isinstance(executor, Inline):
        with _following(follower):
            import_module(module).main(str(job_path))
        return
    home, launches = _home(executor, events.parent), events.parent / "launches"
    launches.mkdir(parents=True, exist_ok=True)
    _end_earlier(launches, home, grace_seconds)
    watch = launches / str(time.time_ns())
    watch.mkdir()
    (watch / rank_process.LEAVE_NAME).write_text(str(rank_process.leave_seconds(grace_seconds)), encoding="utf-8")
    arguments = [module, str(job_path), str(watch)]
    with (
        _stop_noted() as stop,
        nemo_run_jobs.experiment(arguments, executor, home, store_of(job_path)) as made,
        _watched(watch) if executor.kind == "torchrun" else contextlib.nullcontext(),
    ):
        _Launch(made, executor, watch, grace_seconds).run(follower, stop)


def dry_run(job_path: Path, executor: Launched, module: str = PROCESS) -> str:
    """What would be submitted: a command, an sbatch script or a SkyPilot task; tokens are named, never shown."""
    home = _home(executor, job_path.parent)
    arguments = [module, str(job_path), str(job_path.parent / "launches" / "0")]
    return nemo_run_jobs.submitted_text(arguments, executor, home, store_of(job_path))


def dry_run_of(job_path: str, executor: dict[str, Any], emit: Emit) -> str:
    """The same for a worker, from plain JSON values of a block other than `inline`."""
    block = executor_of(executor)
    assert not isinstance(block, Inline)
    return dry_run(Path(job_path), block)


def store_of(job_path: Path) -> Path:
    """The store that a job's folder belongs to: what its processes must see. Elsewhere the folder of the job."""
    partials = [folder for folder in job_path.parents if folder.name == ".partial"]
    return partials[-1].parent if partials else job_path.parent


class Follower:
    """Sends what is added to a file of JSON lines to an emit; what stood there before has been sent already."""

    def __init__(self, path: Path, emit: Emit) -> None:
        self._path, self._emit = path, emit
        self._offset = path.stat().st_size if path.exists() else 0

    def forward(self) -> None:
        """Sends every line that is whole by now. Raises WorkerError for one that is not an event."""
        if not self._path.exists():
            return
        with open(self._path, "rb") as file:
            if file.seek(0, os.SEEK_END) < self._offset:
                self._offset = 0  # begun anew
            file.seek(self._offset)
            whole = file.read().rpartition(b"\n")[0]
        for line in whole.split(b"\n") if whole else ():
            self._offset += len(line) + 1
            try:
                event = json.loads(line)
                name = event.pop("event")
            except (ValueError, KeyError, AttributeError):
                raise WorkerError(f"`{self._path}`: found {line[:200]!r}, expected an event as JSON") from None
            self._emit(name, **event)


class _Launch:
    """One job of NeMo-Run from its submission to its end."""

    def __init__(self, made: Any, executor: Launched, watch: Path, grace_seconds: float) -> None:
        self._made, self._watch, self._kind, self._grace_seconds = made, watch, executor.kind, grace_seconds
        self._state_seconds = executor.poll_seconds if isinstance(executor, Slurm) else STATE_SECONDS[executor.kind]

    def run(self, follower: Follower, stop: threading.Event) -> None:
        _record(self._watch, self._made)
        try:
            nemo_run_jobs.start(self._made)
        except (Exception, SystemExit) as error:
            raise WorkerError(
                f"`executor {self._kind}`: the job could not be submitted: {type(error).__name__}: {error}",
                hint="`tsuzuki executor --dry-run` shows what is submitted",
            ) from error
        try:
            state = self._followed(follower, stop)
        except BaseException:
            end_job(self._made, self._watch, self._grace_seconds)
            raise
        finally:
            follower.forward()
        if state != "SUCCEEDED":
            raise self._error(state, stopped=stop.is_set())
        (self._watch.parent / RECORD_NAME).unlink(missing_ok=True)

    def _followed(self, follower: Follower, stop: threading.Event) -> str:
        """The state that the job ended in."""
        looked, known = 0.0, time.monotonic()
        while True:
            follower.forward()
            if stop.is_set():
                return end_job(self._made, self._watch, self._grace_seconds)
            if time.monotonic() - looked >= self._state_seconds:
                looked, state = time.monotonic(), _state(self._made)
                if state in ENDED:
                    return state
                known = known if state == "UNKNOWN" else looked
                if looked - known > UNKNOWN_SECONDS:
                    end_job(self._made, self._watch, self._grace_seconds)
                    return f"UNKNOWN for {UNKNOWN_SECONDS:.0f} s"
            time.sleep(LOOK_SECONDS)

    def _error(self, state: str, *, stopped: bool) -> TsuzukiError:
        log = _tail(nemo_run_jobs.log_files(self._made))
        told = self._watch / rank_process.ERROR_NAME
        if not told.exists():
            end, hint = (f"stopped by SIGTERM ({state})", self._late_hint()) if stopped else (state, RETRY_HINT)
            return WorkerLost(f"`executor {self._kind}`: the job ended as {end}\n{log}".rstrip(), hint=hint)
        error = json.loads(told.read_text(encoding="utf-8"))
        if error["type"]:
            return getattr(errors, error["type"], WorkerError)(error["message"], hint=error["hint"])
        return WorkerLost(
            f"`executor {self._kind}`: process {error['rank']} failed\n{_quoted(error['message'].splitlines())}",
            hint=RETRY_HINT,
        )

    def _late_hint(self) -> str:
        seconds = rank_process.leave_seconds(self._grace_seconds)
        return (
            f"{RETRY_HINT}. Its processes had {seconds:g} s to write one; where that takes longer, raise "
            f"TSUZUKI_CANCEL_GRACE_SECONDS from {self._grace_seconds:g}"
        )


def end_job(made: Any, watch: Path, grace_seconds: float) -> str:
    """Lets the processes of a job checkpoint and leave, then cancels it; the state it ended in."""
    (watch / rank_process.STOP_NAME).touch()
    # Before this process itself is killed.
    state, until = _state(made), time.monotonic() + max(grace_seconds * 0.9, grace_seconds - 2)
    while state in ("RUNNING", "UNKNOWN") and time.monotonic() < until:
        time.sleep(LOOK_SECONDS * 5)
        state = _state(made)
    if state in (*ENDED, "UNSUBMITTED"):
        return state
    made.cancel(nemo_run_jobs.JOB_NAME)
    return _state(made)


def _state(made: Any) -> str:
    return made.status(return_dict=True)[nemo_run_jobs.JOB_NAME]["status"].name


def _home(executor: Launched, folder: Path) -> Path:
    """Where NeMo-Run keeps scripts, code and logs of a job whose events lie in `folder`."""
    if isinstance(executor, Slurm) and executor.job_dir and not executor.tunnel:
        return executor.job_dir / f"{folder.parent.name}-{sha256(str(folder).encode()).hexdigest()[:8]}"
    return folder / "nemo-run"


def _record(watch: Path, made: Any) -> None:
    """Names the job for a later launch, should this process be killed."""
    experiment = Path(made.jobs[0].executor.experiment_dir).name
    record = {"experiment": experiment, "watch": watch.name}
    (watch.parent / RECORD_NAME).write_text(json.dumps(record), encoding="utf-8")


def _end_earlier(launches: Path, home: Path, grace_seconds: float) -> None:
    """Ends what an earlier launch of the same job left behind, so that no training ever runs twice at a time."""
    with open(launches / rank_process.RANKS_LOCK_NAME, "ab") as lock:
        seconds = EARLIER_SECONDS + grace_seconds
        until = time.monotonic() + seconds
        while not try_lock(lock):
            if time.monotonic() > until:
                raise WorkerError(
                    f"`{launches}`: processes of an earlier launch did not end within {seconds:.0f} s",
                    hint="end them by hand, then run the same command again",
                )
            time.sleep(LOOK_SECONDS)
    record = launches / RECORD_NAME
    if not record.exists():
        return
    earlier = json.loads(record.read_text(encoding="utf-8"))
    found = nemo_run_jobs.earlier_experiment(earlier["experiment"], home)
    if found is not None:
        end_job(found, launches / earlier["watch"], grace_seconds)
    record.unlink()


@contextlib.contextmanager
def _watched(watch: Path) -> Iterator[None]:
    """Holds the lock that tells the processes on this machine that their launcher lives, until all of them ended."""
    with open(watch / rank_process.LAUNCHER_LOCK_NAME, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _stop_noted() -> Iterator[threading.Event]:
    stop = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _following(follower: Follower) -> Iterator[None]:
    """Forwards events from a thread while this one trains; what fails there is raised here at the end."""
    done, failures = threading.Event(), deque[Exception](maxlen=1)

    def follow() -> None:
        try:
            while not done.wait(LOOK_SECONDS):
                follower.forward()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if not failures:
            follower.forward()
    if failures:
        raise failures[0]


def _tail(logs: list[Path]) -> str:
    if not logs:
        return ""
    with open(logs[0], encoding="utf-8", errors="replace") as log:
        return _quoted(list(deque(log, maxlen=LOG_TAIL_LINES)))


def _quoted(lines: list[str]) -> str:
    return "\n".join(f"  | {line.rstrip()}" for line in lines)
