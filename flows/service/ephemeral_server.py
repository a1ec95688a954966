"""Prefect's servers among the processes, and a temporary one that lives exactly as long as its run."""

from __future__ import annotations

import atexit
import subprocess
import threading

import psutil

SERVER_FACTORY = "prefect.server.api.server:create_app"
"""What Prefect itself starts: the temporary server of a run without PREFECT_API_URL."""
SERVED_FACTORY = "flows.service.app:create_app"
"""What `tsuzuki serve` starts."""
REPORTS_PATH = "/reports"
"""Where that one shows the reports of deliveries."""
LOOK_SECONDS = 0.5


def tie_server_to_this_process() -> None:
    """The temporary server ends when this process is gone, even by SIGKILL, and not before; nothing without a server.

    Prefect starts that server as a plain child: killed with -9, its parent leaves it listening for ever; and when it is
    killed itself, the run goes on for minutes and then fails for want of it.
    """
    for child in psutil.Process().children():
        if SERVER_FACTORY in child.cmdline():
            leaving = threading.Event()
            atexit.register(leaving.set)  # called before what Prefect registered earlier, which ends the server
            watched = (child, end_with_this_process(child.pid), leaving)
            threading.Thread(target=_keep, args=watched, daemon=True, name="keep server").start()


def _keep(server: psutil.Process, guard: subprocess.Popen[bytes], leaving: threading.Event) -> None:
    """Starts a server that died again, on its port: what it knew lies in its database, and clients ask again."""
    words, environment = server.cmdline(), server.environ()
    while not leaving.wait(LOOK_SECONDS):
        if not server.is_running() or server.status() == psutil.STATUS_ZOMBIE:
            server.wait()
            guard.kill()  # the number it would signal is another process's by now, perhaps
            guard.wait()
            server = psutil.Popen(words, env=environment)
            guard = end_with_this_process(server.pid)


GUARD = """cat >/dev/null
kill "$0" 2>/dev/null || exit
for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.5; kill -0 "$0" 2>/dev/null || exit; done
kill -9 "$0"
"""


def end_with_this_process(pid: int) -> subprocess.Popen[bytes]:
    """The guard: a shell that ends `pid` when this process is gone, however it went: SIGTERM, after 5 s SIGKILL."""
    # The guard's standard input is a pipe that only this process holds; it ends when this process ends.
    return subprocess.Popen(
        ["/bin/sh", "-c", GUARD, str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
