"""Reading that is killed with -9 goes on with the shares of files that are missing."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from command_line import ROOT
from data_contracts.artifacts import RawCorpus
from tasks.acquire.reading import ReadResult

ACQUIRE = """
import sys
from pathlib import Path
from tasks import parallel
from tasks.acquire import sharing
from tasks.acquire.config import LocalSource
from tasks.runtime import Runtime
from tasks.stage import Request
from tasks.stages import ACQUIRE
from tasks.store import Store
if __name__ == "__main__":
    parallel.INLINE_BYTES = sharing.MIN_SHARE_BYTES = 1
    source, store, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    request = Request.of(ACQUIRE, LocalSource(path=source), {})
    print(Store(store).build(request, Runtime(store=store, workers=workers)).path)
"""


def test_reading_that_was_killed_goes_on_with_what_is_missing(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    lines = [json.dumps({"text": "雨" * (n % 600), "meta": {"id": f"d{n}"}}, ensure_ascii=False) for n in range(40_000)]
    (source / "train_0.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode(), 1))
    (source / "train_1.jsonl").write_text('{"id": "last", "text": "雪"}', encoding="utf-8")
    (tmp_path / "run.py").write_text(ACQUIRE, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "run.py"), str(source)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def finish(store: Path, workers: int) -> RawCorpus:
        done = subprocess.run([*command, str(store), str(workers)], env=environment, check=True, capture_output=True)
        return RawCorpus.open(Path(done.stdout.decode().strip()))

    run = subprocess.Popen([*command, str(tmp_path / "store"), "2"], env=environment)
    deadline = time.monotonic() + 60
    while not (noted := list((tmp_path / "store").glob(".partial/acquire-*/.scratch/read-*.json"))):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    children = psutil.Process(run.pid).children(recursive=True)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    psutil.wait_procs(children, timeout=30)
    assert not list((tmp_path / "store").glob("acquire/*"))
    names = [
        c.shard.name for path in noted for c in ReadResult.model_validate_json(path.read_bytes()).chunks if c.shard
    ]
    written = {name: (noted[0].parent / name).stat().st_mtime_ns for name in names}
    killed = finish(tmp_path / "store", 2)
    assert {name: (killed.path / name).stat().st_mtime_ns for name in names} == written
    undisturbed = finish(tmp_path / "other", 1)
    assert killed.digest == undisturbed.digest
    assert killed.manifest.summary.counts == undisturbed.manifest.summary.counts
