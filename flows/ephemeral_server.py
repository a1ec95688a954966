"""Prefect's servers among the processes, and a temporary one that must not outlive a run that was killed."""

from __future__ import annotations

import subprocess

import psutil

SERVER_FACTORY = "prefect.server.api.server:create_app"
"""What Prefect itself starts: the temporary server of a run without PREFECT_API_URL."""
SERVED_FACTORY = "flows.served_app:create_app"
"""What `tsuzuki serve` starts."""
REPORTS_PATH = "/reports"
"""Where that one shows the reports of deliveries."""


def end_server_with_this_process() -> None:
    """Leaves a guard that ends the temporary server when this process is gone, even by SIGKILL; none without a server.

    Prefect starts that server as a plain child: killed with -9, its parent leaves it listening for ever.
    """
    for child in psutil.Process().children():
        if SERVER_FACTORY in child.cmdline():
            end_with_this_process(child.pid)


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
