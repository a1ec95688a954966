"""Runs of the pipeline without Prefect that start at once: forks of a process that has everything imported."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import psutil

from command_line import MICRO, ROOT, Tsuzuki


class Starter:
    """Starts runs of the micro recipe. What they say goes to `folder`/said; their TMPDIR is `folder`/tmp."""

    def __init__(self, folder: Path) -> None:
        self.temporary, self.log = folder / "tmp", folder / "said"
        self.temporary.mkdir(parents=True)
        self.environment = {**os.environ, "TMPDIR": str(self.temporary), "PREFECT_HOME": str(folder / "home")}

    def started(self, words: list[str], **streams: Any) -> subprocess.Popen[bytes]:
        with open(self.log, "ab") as log:
            return subprocess.Popen(words, cwd=ROOT, env=self.environment, stderr=log, bufsize=0, **streams)

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-4000:]

    def left(self) -> list[psutil.Process]:
        """What still runs of all that its runs ever started."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("TMPDIR") == str(self.temporary):
                    found.append(process)
        return [process for process in found if is_alive(process)]


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Commands(Starter):
    """Starts runs by the command line, with Prefect and its temporary server."""

    def start(self, store: Path, *, until: str | None = None, workers: int = 1) -> subprocess.Popen[bytes]:
        assert until is None and workers == 1
        words = [*Tsuzuki.command, "run", "demo", "--config", str(MICRO), "--store", str(store)]
        return self.started(words, stdout=subprocess.DEVNULL, start_new_session=True)


class StoryServer(Starter):
    """Starts runs without Prefect, one after another."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.environment["PYTHONPATH"] = str(ROOT)
        self.process = self.started([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def start(self, store: Path, *, until: str | None = None, workers: int = 1) -> StoryRun:
        """A new run of the micro recipe; with several workers, every job of a corpus stage is done by a process."""
        assert self.process.stdin is not None
        told = {"store": str(store), "until": until, "workers": workers}
        self.process.stdin.write(json.dumps(told).encode() + b"\n")
        return StoryRun(self)

    def line(self) -> bytes:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.said()
        return line

    def left(self) -> list[psutil.Process]:
        return [process for process in super().left() if process.pid != self.process.pid]

    def stop(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


class StoryRun:
    """One of them: as much of a Popen as tests of faults need."""

    stderr = None

    def __init__(self, server: StoryServer) -> None:
        self.server = server
        self.pid = int(server.line())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self.server.process.stdout], [], [], 0)[0]:
            self.returncode = int(self.server.line())
        return self.returncode

    def wait(self, timeout: float = 500) -> int:
        if self.returncode is None:
            assert select.select([self.server.process.stdout], [], [], timeout)[0], "it does not end"
        code = self.poll()
        assert code is not None
        return code


def serve() -> None:
    """Forks a run for every line of standard input; tells its process id, then its exit code."""
    import tasks.parallel

    tasks.parallel.INLINE_BYTES = tasks.parallel.THREADED_BYTES = 0  # few bytes are spread over processes too
    prepare()
    for line in sys.stdin.buffer:
        if not (pid := os.fork()):
            told(os.getpid())
            run(**json.loads(line))
        told(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def told(number: int) -> None:
    os.write(1, b"%d\n" % number)


def prepare() -> None:
    from importlib import import_module

    import flows.pipeline_flow
    from tasks.stages import STAGES

    assert flows.pipeline_flow
    for stage in STAGES.values():
        import_module(stage.body.partition(":")[0])


def run(store: str, **options: Any) -> None:
    """The run, in a session of its own; never returns."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    try:
        tell_story(Path(store), **options)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def tell_story(store: Path, until: str | None, workers: int) -> None:
    from contextlib import suppress

    from flows.configuration import load_config
    from flows.pipeline_flow import pipeline_story
    from flows.runs import Run, Stopped
    from tasks.runtime import Runtime

    config = load_config("demo", MICRO)
    with suppress(Stopped):
        pipeline_story(config, Run(Runtime(store=store, workers=workers), until=until))


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    serve()
