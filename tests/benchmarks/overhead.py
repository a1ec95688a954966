"""What stands around the work: a stage's own cost against Prefect's, a cached rerun, and a corpus of 10,000 shards.

    python tests/benchmarks/overhead.py                      (all three; the demo is built once, which takes minutes)
    python tests/benchmarks/overhead.py --only shards --documents 20000 --shards 10000

Every figure is a median of --runs; every run is a process of its own. `temporary` is the
server that Prefect starts for a run, `standing` one that runs already, as `tsuzuki serve` has it. Requests are counted
in the access log of the standing server, task runs by its API.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from measuring import medians, tell
from shard_runs import SHARD_FIGURES, sharded_corpus, sharded_run
from standing_server import StandingServer

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WAYS = {
    "functions": "plain function calls",
    "run": "our stages, without Prefect",
    "tasks": "plain Prefect tasks",
    "stages": "our stages on Prefect",
}
WITHOUT_PREFECT = ("functions", "run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("stages", "cached", "shards"), action="append")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--number", type=int, default=50, help="trivial stages of a chain")
    parser.add_argument("--demo-store", type=Path, help="store that holds the recipe already; none: it is built")
    parser.add_argument("--config", type=Path, help="laid over the recipe demo for the cached rerun")
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=10_000)
    options = parser.parse_args()
    parts = options.only or ("stages", "cached", "shards")
    print(f"load average of the last minute: {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", file=sys.stderr)
    with (
        tempfile.TemporaryDirectory(prefix="tsuzuki-overhead-") as name,
        StandingServer(Path(name, "standing")) as server,
    ):
        folder = Path(name)
        if "stages" in parts:
            trivial_stages(folder, server, options)
        if "cached" in parts:
            cached_demo(folder, server, options)
        if "shards" in parts:
            many_shards(folder, server, options)
    print(f"load average of the last minute: {os.getloadavg()[0]:.1f}", file=sys.stderr)


def on_server(folder: Path, server: StandingServer | None) -> dict[str, str]:
    """Environment of a run; without a server Prefect starts a temporary one, with a home of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    return environment | ({"PREFECT_API_URL": server.url} if server else {})


def trivial_stages(folder: Path, server: StandingServer, options: argparse.Namespace) -> None:
    table = []
    for place, standing in (("temporary", None), ("standing", server)):
        for way in WAYS:
            if way in WITHOUT_PREFECT and standing:
                continue
            figures = medians(options.runs, partial(chain_twice, way, folder, standing, options.number))
            where = "none" if way in WITHOUT_PREFECT else place
            table.append({"chain": WAYS[way], "server": where, **figures})
            tell("stages", **table[-1])
    show(table)


def chain_twice(way: str, folder: Path, server: StandingServer | None, number: int) -> dict[str, float]:
    """Figures of one chain on a new folder, and of the same once more."""
    figures: dict[str, float] = {}
    target = Path(tempfile.mkdtemp(dir=folder, prefix=way))
    for time_of_run in ("first", "again"):
        asked = server.num_requests() if server else 0
        command = [sys.executable, HERE / "trivial_stages.py", way, target, number]
        told = json.loads(timed(command, on_server(folder, server))[-1][1])
        figures |= {
            f"{time_of_run}_start_s": told["before"],
            f"{time_of_run}_s": told["stages"] + told["after"],
            f"{time_of_run}_ms_a_stage": 1000 * told["stages"] / number,
        }
        if server:
            figures[f"{time_of_run}_requests_a_stage"] = (server.num_requests() - asked) / number
    return figures


def timed(command: Iterable[Any], environment: dict[str, str]) -> list[tuple[float, str]]:
    """The lines that a command prints, each with its second. Exits if it fails."""
    started, lines = time.perf_counter(), []
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        lines = [(time.perf_counter() - started, line) for line in process.stdout]
        if process.wait():
            errors.seek(0)
            sys.exit(f"{command}: exit code {process.returncode}\n{errors.read()[-3000:]}")
        return lines


def cached_demo(folder: Path, server: StandingServer, options: argparse.Namespace) -> None:
    store = options.demo_store or folder / "demo"
    words = ["run", "demo", "--store", store, *(["--config", options.config] if options.config else [])]
    command = [sys.executable, "-m", "flows.cli", *words]
    timed(command, on_server(folder, None))
    table = []
    for place, standing in (("temporary", None), ("standing", server)):
        figures = medians(options.runs, partial(cached_run, command, folder, standing))
        table.append({"cached demo": "12 stages", "server": place, **figures})
        tell("cached", **table[-1])
    show(table)


def cached_run(command: list[Any], folder: Path, server: StandingServer | None) -> dict[str, float]:
    """Seconds before the first stage (imports, a temporary server), of all stages, and from the last one to the end."""
    asked = server.num_requests() if server else 0
    started = time.perf_counter()
    lines = timed(command, on_server(folder, server))
    total = time.perf_counter() - started
    stages = [(second, json.loads(line)) for second, line in lines]
    assert all(told["status"] == "cached" for _, told in stages), stages
    begin, last = stages[0][0] - stages[0][1]["seconds"], stages[-1][0]
    figures = {"start_s": begin, "stages_s": last - begin, "end_s": total - last, "after_start_s": total - begin}
    return figures | ({"requests": server.num_requests() - asked} if server else {})


def many_shards(folder: Path, server: StandingServer, options: argparse.Namespace) -> None:
    """Figures by number of shards, of the same documents; the ratio is the last row."""
    rows: list[dict[str, Any]] = []
    for num_shards in (10, options.shards):
        corpus = sharded_corpus(options.documents, num_shards, folder / f"corpus-{num_shards}")
        environment = on_server(folder, server)
        once = partial(sharded_run, corpus, folder, server, environment)
        rows.append({"shards": num_shards, **medians(options.runs, once)})
        tell("shards", **rows[-1])
    few, many = rows
    rows.append({"shards": "ratio", **{name: many[name] / few[name] for name in SHARD_FIGURES if few[name]}})
    show(rows)


def show(rows: list[dict[str, Any]]) -> None:
    """The rows as a table on stderr."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_cell(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, re.sub(r"[^|]", "-", lines[0]))
    print("\n".join(lines), file=sys.stderr)


def _cell(value: Any) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and value < 1000
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


if __name__ == "__main__":
    main()
