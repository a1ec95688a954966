"""The commands of a Slurm cluster of one node, this machine: `emulated_slurm.py COMMAND ARGUMENTS...`.

Jobs are real processes, each in a session of its own. The state of the cluster lies in EMULATED_SLURM.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scancel", "scontrol")
WITH_VALUE = {"-w", "--output", "--chdir", "--container-image", "--container-mounts", "--container-workdir"}


def install(folder: Path, state: Path) -> dict[str, str]:
    """Puts the commands into a folder; the environment in which they are found."""
    folder.mkdir(parents=True)
    state.mkdir()
    for command in COMMANDS:
        program = folder / command
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {command} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "EMULATED_SLURM": str(state)}


def sbatch(state: Path, *words: str) -> None:
    script = Path(words[-1])
    number = str(len(list(state.glob("*.state"))) + 1)
    output = re.search(r"^#SBATCH --output=(\S+)", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert output is not None
    (state / f"{number}.script").write_text(script.read_text(encoding="utf-8"), encoding="utf-8")
    (state / f"{number}.state").write_text("RUNNING", encoding="utf-8")
    with open(output[1].replace("%j", number), "ab") as log:
        job = subprocess.Popen(
            [sys.executable, __file__, "job", number, str(script)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "SLURM_JOB_ID": number, "SLURM_JOB_NODELIST": "localhost", "SLURM_NODEID": "0"},
        )
    (state / f"{number}.pid").write_text(str(job.pid), encoding="utf-8")
    print(number)


def job(state: Path, number: str, script: str) -> None:
    code = subprocess.run(["bash", script]).returncode
    (state / f"{number}.state").write_text("FAILED" if code else "COMPLETED", encoding="utf-8")


def srun(state: Path, *words: str) -> None:
    options: dict[str, str] = {}
    left = list(words)
    while left and left[0].startswith("-"):
        option = left.pop(0)
        options[option] = left.pop(0) if option in WITH_VALUE else ""
    log = open(options["--output"], "ab") if "--output" in options else None  # noqa: SIM115
    sys.exit(subprocess.run(left, cwd=options.get("--chdir"), stdout=log, stderr=log).returncode)


def sacct(state: Path, *words: str) -> None:
    number = words[words.index("-j") + 1]
    print("JobID|JobName|State")
    print(f"{number}|account.training|{(state / f'{number}.state').read_text(encoding='utf-8')}")


def scancel(state: Path, number: str) -> None:
    os.killpg(int((state / f"{number}.pid").read_text(encoding="utf-8")), signal.SIGTERM)
    (state / f"{number}.state").write_text("CANCELLED", encoding="utf-8")


def scontrol(state: Path, *words: str) -> None:
    print("localhost")


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(os.environ["EMULATED_SLURM"]), *sys.argv[2:])
