"""Duplicates by NeMo Curator's own workflows on a GPU: `curator_dedup.py CORPUS OUTPUT WORKERS SETTINGS`.

CORPUS is a folder of parquet with `id` and `text`. Exact duplicates are identified and removed, then near-duplicates:
the second step of both is a workflow of its own, which finds the documents again by numbers that hold only if it reads
the same files in the same blocks. SETTINGS is JSON, arguments of FuzzyDeduplicationWorkflow. `--imports` alone tries
whether all of it is installed.
OUTPUT gets `kept/`, the documents that stay, and `found.json`: `exact`, ids of the documents that the first removal
dropped; `clusters`, {id: component} of the second; `buckets`, lists of ids whose sketches met. Prints the seconds up to
the end of Ray, and by step, as one line of JSON.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BLOCK = "64MiB"
NUMBER = "_curator_dedup_id"
STORE_BYTES = 8 << 30


def main() -> None:
    if sys.argv[1:] == ["--imports"]:
        imports()
        return
    corpus, output, workers, settings = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    begun = time.perf_counter()
    shutil.rmtree(output, ignore_errors=True)
    seconds: dict[str, float] = {}

    def step(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = work()
        seconds[name] = round(time.perf_counter() - started, 2)
        return result

    # Ray asks for a token; one made here serves its processes and ours alike.
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    step("import", imports)
    with ray_cluster(workers):
        exact, fuzzy = output / "exact", output / "fuzzy"
        step("exact", lambda: identify_exact(corpus, exact))
        step("exact removal", lambda: remove(corpus, exact / "ExactDuplicateIds", exact, output / "unique"))
        phases = step("fuzzy", lambda: identify_near(output / "unique", fuzzy, settings))
        step("fuzzy removal", lambda: remove(output / "unique", fuzzy / "FuzzyDuplicateIds", fuzzy, output / "kept"))
    whole = round(time.perf_counter() - begun, 2)
    (output / "found.json").write_text(json.dumps(found(corpus, output)))
    print(json.dumps({"seconds": whole, "seconds_by_step": seconds, "seconds_of_fuzzy": phases}))


def imports() -> None:
    import nemo_curator.backends.internal.raft.ray_comms
    import nemo_curator.stages.deduplication.exact.workflow
    import nemo_curator.stages.deduplication.fuzzy.workflow
    import nemo_curator.stages.text.deduplication.removal_workflow  # noqa: F401


def identify_exact(corpus: Path, folder: Path) -> None:
    from nemo_curator.stages.deduplication.exact.workflow import ExactDeduplicationWorkflow

    ExactDeduplicationWorkflow(output_path=str(folder), input_path=str(corpus), input_blocksize=BLOCK).run()


def identify_near(corpus: Path, folder: Path, settings: dict[str, Any]) -> dict[str, float]:
    from nemo_curator.stages.deduplication.fuzzy.workflow import FuzzyDeduplicationWorkflow

    workflow = FuzzyDeduplicationWorkflow(
        cache_path=str(folder / "cache"),
        output_path=str(folder),
        input_path=str(corpus),
        input_blocksize=BLOCK,
        **settings,
    )
    metadata = workflow.run().metadata or {}
    return {name: round(value, 2) for name, value in metadata.items() if isinstance(value, float)}


def remove(corpus: Path, duplicates: Path, numbers: Path, kept: Path) -> None:
    """The second step: the workflows above refuse `perform_removal`."""
    from nemo_curator.backends.ray_data import RayDataExecutor
    from nemo_curator.stages.text.deduplication.removal_workflow import TextDuplicatesRemovalWorkflow

    TextDuplicatesRemovalWorkflow(
        input_path=str(corpus),
        ids_to_remove_path=str(duplicates),
        output_path=str(kept),
        input_blocksize=BLOCK,
        duplicate_id_field=NUMBER,
        id_generator_path=str(numbers_file(numbers)),
        drop_id_field=True,
    ).run(RayDataExecutor())


@contextmanager
def ray_cluster(workers: int) -> Iterator[None]:
    """A Ray of its own: what the workflows start themselves would end between their steps."""
    from nemo_curator.backends.utils import register_loguru_serializer

    register_loguru_serializer()
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        where = [
            "--node-ip-address=127.0.0.1",
            f"--port={port}",
            f"--temp-dir={folder}",
            "--include-dashboard=false",
            "--disable-usage-stats",
        ]
        what = [f"--num-cpus={workers}", "--num-gpus=1", f"--object-store-memory={STORE_BYTES}"]
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *where, *what]
        with (
            Path(folder, "head.log").open("w+") as log,
            subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True) as head,
        ):
            try:
                wait_for(port, head, log)
                os.environ["RAY_ADDRESS"] = f"127.0.0.1:{port}"
                yield
            finally:
                end(head)


def end(head: subprocess.Popen[bytes], patience: float = 3) -> None:
    os.killpg(head.pid, signal.SIGTERM)
    try:
        head.wait(patience)
    except subprocess.TimeoutExpired:
        os.killpg(head.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port: int, head: subprocess.Popen[bytes], log: Any, patience: float = 60) -> None:
    import ray

    ends = time.monotonic() + patience
    while time.monotonic() < ends and head.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            ray.init(f"127.0.0.1:{port}", log_to_driver=False)
            ray.shutdown()
            return
        except (OSError, RuntimeError, ConnectionError):
            time.sleep(0.5)
    log.seek(0)
    sys.exit(f"Ray's head did not start\n{log.read()[-3000:]}")


def found(corpus: Path, output: Path) -> dict[str, Any]:
    """What the workflows left on disk, in the documents' own ids."""
    import pyarrow.parquet as pq

    exact_ids = ids_by_number(corpus, output / "exact")
    fuzzy_ids = ids_by_number(output / "unique", output / "fuzzy")
    cache = output / "fuzzy" / "cache"
    removed = [n for file in parquet(output / "exact" / "ExactDuplicateIds") for n in column(file, NUMBER)]
    clusters: dict[str, int] = {}
    for file in parquet(cache / "ConnectedComponentsStage"):
        table = pq.read_table(file)
        numbers, groups = table[NUMBER].to_pylist(), table["_duplicate_group_id"].to_pylist()
        clusters.update((fuzzy_ids[number], group) for number, group in zip(numbers, groups, strict=True))
    buckets = {tuple(sorted(b)) for file in parquet(cache / "LSHStage") for b in column(file, NUMBER)}
    return {
        "exact": [exact_ids[number] for number in removed],
        "clusters": clusters,
        "buckets": [[fuzzy_ids[number] for number in bucket] for bucket in sorted(buckets)],
    }


def column(file: Path, name: str) -> list[Any]:
    import pyarrow.parquet as pq

    return pq.read_table(file, columns=[name])[name].to_pylist()


def ids_by_number(corpus: Path, numbers: Path) -> dict[int, str]:
    """The id of each document by the number that a workflow gave it, from what it wrote down of its blocks."""
    from nemo_curator.stages.file_partitioning import FilePartitioningStage
    from nemo_curator.tasks import EmptyTask

    blocks = json.loads(numbers_file(numbers).read_text())["batch_registry"]
    ids: dict[int, str] = {}
    stage = FilePartitioningStage(file_paths=str(corpus), blocksize=BLOCK, file_extensions=[".parquet"])
    for task in stage.process(EmptyTask()):
        first, last = blocks[str(uuid.uuid5(uuid.NAMESPACE_URL, ";".join(task.data)))]
        here = [i for file in task.data for i in column(Path(file), "id")]
        if len(here) != last - first + 1:
            sys.exit(f"{task.data}: {len(here)} documents, {last - first + 1} were numbered")
        ids.update(zip(range(first, last + 1), here, strict=True))
    return ids


def numbers_file(folder: Path) -> Path:
    return next(folder.glob("*_id_generator.json"))


def parquet(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))


if __name__ == "__main__":
    main()
