"""A corpus of many small files is a run of few task runs."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

from command_line import ROOT

NUM_SHARDS = 300
SCRIPT = """
import json, sys, time
from pathlib import Path
from infra.settings import prepare_prefect

prepare_prefect()
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter

from flows.configuration import load_config
from flows.corpus_flow import corpus

folder, store = map(Path, sys.argv[1:])
config = load_config("demo", None, ("source.kind=local", f"source.path={folder}", "filters.cascade=[]"))
flow_run_id = corpus(config, store=store, until="filter", return_state=True).state_details.flow_run_id
found = []
with get_client(sync_client=True) as client:
    deadline = time.monotonic() + 60
    while [t.state_type for t in found] != ["COMPLETED"] * 2 and time.monotonic() < deadline:
        found = client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [flow_run_id]}))
        time.sleep(0.2)
    time.sleep(1)
    found = client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [flow_run_id]}))
print(json.dumps([str(task_run.name) for task_run in found]))
"""
"""Prefect's temporary server lives as long as its process, so that the API can be asked after the run."""


def write_shards(folder: Path) -> None:
    folder.mkdir()
    for number in range(NUM_SHARDS):
        text = f"第{number}号の文書です。東京都の㍿テスト社は、毎日のように新しい記録を公開しています。" * 3
        line = json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"
        (folder / f"train-{number:05d}.jsonl.gz").write_bytes(gzip.compress(line, 1))


def test_corpus_of_many_shards_has_one_task_run_a_stage(tmp_path) -> None:
    write_shards(tmp_path / "corpus")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "corpus"), str(tmp_path / "store")],
        cwd=ROOT,
        env={**os.environ, "PREFECT_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    stages = sorted(path.name for path in tmp_path.glob("store/[!.]*"))
    assert stages == ["acquire", "filter"]
    assert len(json.loads(done.stdout.splitlines()[-1])) == len(stages)
    for stage in stages:
        assert len(list(tmp_path.glob(f"store/{stage}/*/documents/*.parquet"))) == NUM_SHARDS
