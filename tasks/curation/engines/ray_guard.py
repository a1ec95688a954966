"""Ends what a killed worker leaves of Ray: `python ray_guard.py PROCESS_GROUP FOLDER`, run by the worker on a pipe.

Most of Ray's processes end with the one that started them; two agents of Ray 2.60 were seen to outlive it by 45 s.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys


def main(group: int, folder: str) -> None:
    """Waits for the end of standard input, then kills the process group and removes the folder of Ray's session."""
    while os.read(0, 4096):
        pass  # the worker writes nothing; the read returns empty only when it is gone
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
