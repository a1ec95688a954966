"""`tsuzuki serve`: Prefect's server and a process worker under one parent, and an end that leaves no process."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from data_contracts.errors import TsuzukiError, UsageError
from flows.service.ephemeral_server import REPORTS_PATH, SERVED_FACTORY, end_with_this_process
from flows.service.life import LOCK_NAME, only_service_of
from flows.service.lost_runs import LostRuns, flow_run_of, reschedule

POOL = "tsuzuki"
START_SECONDS = 120.0
SERVER_STOP_SECONDS = 10.0
RESTART_SECONDS = 2.0
SERVER_RETRY_SECONDS = 5.0
WORKER = f"tsuzuki serve on {socket.gethostname()}"
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Address:
    """Where the server listens, and how this machine's own processes reach it. `auth` is `user:password`."""

    host: str
    port: int
    auth: str | None = field(default=None, repr=False)

    @property
    def api_url(self) -> str:
        # A server that listens everywhere is reached on the loopback.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared only
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/api"


def check_address(address: Address) -> None:
    """Raises UsageError for an address that is not the loopback without a password, or that is taken."""
    if address.auth is not None and not all(address.auth.partition(":")):
        raise UsageError(
            "`PREFECT_SERVER_API_AUTH_STRING`: found something else, expected `user:password`",
            hint="set or unset that variable",
        )
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"`--host {address.host}`: {error}, expected an address of this machine") from None
    loopback = all(ipaddress.ip_address(info[4][0]).is_loopback for info in found)
    if not loopback and not address.auth:
        raise UsageError(
            f"`--host {address.host}`: others could start and read runs there, expected the loopback or a password",
            hint="set PREFECT_SERVER_API_AUTH_STRING=user:password, and put TLS in front; or leave --host out",
        )
    family, kind, _, _, name = found[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(name)
        except OSError as error:
            raise UsageError(
                f"`{address.host}:{address.port}`: {error.strerror}, expected a free port",
                hint="take another --port, or stop what listens there",
            ) from None


@dataclass
class Service:
    """The server and its worker. `say` hears one line about everything that happens."""

    address: Address
    environment: dict[str, str]
    setup_words: tuple[str, ...]
    grace_seconds: float
    say: Callable[[str], None]
    stopping: threading.Event = field(default_factory=threading.Event)
    guards: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    worker: subprocess.Popen[bytes] | None = None
    own: set[int] = field(default_factory=set)

    def run(self) -> None:
        """Runs until SIGINT, SIGTERM or SIGHUP; then nothing that was started is left.

        Raises UsageError where another service runs on the same Prefect home.
        """
        me = f"process {os.getpid()}, {self.address.api_url}"
        with only_service_of(_home(self.environment), me):
            _adopt_orphans()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda *_: self.stopping.set())
            try:
                self._serve()
            finally:
                self._stop()

    def _serve(self) -> None:
        server = self._start_server()
        if not self.stopping.is_set():
            self._set_up()
        lost = LostRuns(self.address.api_url, self.address.auth, POOL, WORKER)
        while not self.stopping.is_set():
            if server.poll() is not None:
                self.say(f"the server ended (exit {server.returncode}); started again")
                server = self._restart_server()
            no_worker = self.worker is None or self.worker.poll() is not None
            self._reap_orphans()
            self._look_after_runs(lost, no_worker)
            if no_worker and not self.stopping.is_set():
                self._start_worker()
            self.stopping.wait(RESTART_SECONDS)

    def _restart_server(self) -> subprocess.Popen[bytes]:
        """Unlike at the start, nobody watches, and its database may be what is down: tried until it is up."""
        while True:
            try:
                return self._start_server()
            except TsuzukiError as error:
                self.say(f"{error}; tried again in {SERVER_RETRY_SECONDS:.0f} s")
                self.stopping.wait(SERVER_RETRY_SECONDS)

    def _start_worker(self) -> None:
        if self.worker is not None:
            self.say(f"the worker ended (exit {self.worker.returncode}); started again")
        # By its name it knows the runs that it took before it was killed.
        self.worker = self._start("prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", WORKER)
        self.say(f"worker ready: work pool {POOL}, queues cpu and gpu")

    def _reap_orphans(self) -> None:
        """A dead process that a run left stays in its group, and Prefect takes a cancelled run for alive that long."""
        for child in psutil.Process().children():
            if child.pid not in self.own and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)

    def _look_after_runs(self, lost: LostRuns, no_worker: bool) -> None:
        try:
            for line in lost.look(no_worker):
                self.say(line)
        except httpx.HTTPError as error:
            # A server that is busy or down: what is lost is found by a later look.
            self.say(f"the server does not answer: {error or type(error).__name__}")

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in the terminal reaches this process alone, which ends the others in order.
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.own.add(process.pid)
        if old := self.guards.pop(words[0], None):
            old.kill()  # the number it would signal is another process's by now, perhaps
        self.guards[words[0]] = end_with_this_process(process.pid)
        return process

    def _start_server(self) -> subprocess.Popen[bytes]:
        where = ("--host", self.address.host, "--port", str(self.address.port), "--log-level", "warning")
        server = self._start("uvicorn", "--factory", SERVED_FACTORY, *where)
        deadline = time.monotonic() + START_SECONDS
        while not self.stopping.is_set():
            if server.poll() is not None or time.monotonic() > deadline:
                raise TsuzukiError(
                    f"`prefect server`: found it {'ended' if server.poll() is not None else 'silent'}, expected an"
                    f" answer on {self.address.api_url}/health",
                    hint="its own lines above say why",
                )
            if self._is_healthy():
                break
            self.stopping.wait(0.2)
        return server

    def _is_healthy(self) -> bool:
        try:
            return httpx.get(f"{self.address.api_url}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def _set_up(self) -> None:
        setup = self._start("flows.cli", "setup", *self.setup_words)
        while setup.poll() is None and not self.stopping.wait(0.1):
            pass
        if setup.poll():
            raise TsuzukiError(f"`tsuzuki setup`: exit {setup.returncode}", hint="its own lines above say why")

    def _stop(self) -> None:
        """Ends runs first (a training saves a checkpoint), then everything else; what stays is killed."""
        runs = {p: run for p in psutil.Process().children(recursive=True) if (run := flow_run_of(p))}
        if runs:
            self.say(f"stopping {len(set(runs.values()))} flow runs; a training saves a checkpoint")
        _signal(runs)
        psutil.wait_procs(runs, timeout=self.grace_seconds)
        others = psutil.Process().children(recursive=True)
        workers = [process for process in others if not _is_server(process)]
        _signal(workers)
        psutil.wait_procs(workers, timeout=SERVER_STOP_SECONDS)
        for run_id in sorted(set(runs.values())):
            if reschedule(self.address.api_url, self.address.auth, run_id, "`tsuzuki serve` was stopped"):
                self.say(f"flow run {run_id}: continues when `tsuzuki serve` is started again")
        _signal(psutil.Process().children(recursive=True))
        psutil.wait_procs(psutil.Process().children(recursive=True), timeout=SERVER_STOP_SECONDS)
        while left := psutil.Process().children(recursive=True):
            _signal(left, signal.SIGKILL)
            psutil.wait_procs(left, timeout=1)


def _adopt_orphans() -> None:
    """Makes this process the parent of what its killed children leave, where the system can: none is lost of sight."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("PREFECT_HOME", "~/.prefect")).expanduser().absolute()


def _is_server(process: psutil.Process) -> bool:
    try:
        return SERVED_FACTORY in process.cmdline()
    except psutil.Error:
        return False


def _signal(processes: Iterable[psutil.Process], number: int = signal.SIGTERM) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def environment_of(address: Address, store: Path) -> dict[str, str]:
    """The environment of the server and the worker: this one's, with this server in place of any other."""
    fixed = {
        "PREFECT_API_URL": address.api_url,
        "PREFECT_SERVER_API_HOST": address.host,
        "PREFECT_SERVER_API_PORT": str(address.port),
        "TSUZUKI_STORE": str(store.absolute()),
        "TSUZUKI_SERVICE_LOCK": str(_home(os.environ) / LOCK_NAME),
    }
    if address.auth:
        fixed["PREFECT_API_AUTH_STRING"] = address.auth
    defaults = {
        # In memory, a restarted server would not know whose slot of the GPU has run out.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        # A run lost while the server was down is found when it is back, and the age of data outlives a holiday.
        "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P7D",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        # Prefect's worker hears the events of the last minute again: a run retried so soon would be cancelled twice.
        "PREFECT_SERVER_EVENTS_MAXIMUM_WEBSOCKET_BACKFILL": "PT5S",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # A path, not an address: a link in the UI leads to the host that the browser knows, through whatever proxy.
        "TSUZUKI_REPORTS_URL": REPORTS_PATH,
        "PREFECT_LOGGING_LEVEL": "WARNING",
        # What a run says goes to its page in the UI, where it reads like a story.
        "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "INFO",
    }
    return {**defaults, **os.environ, **fixed}
