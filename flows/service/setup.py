"""What a Prefect server needs once: work pool and queues, the limit of the GPU, deployments, automations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound

from data_contracts.errors import UsageError
from flows.service.automations import apply_automations, save_notify_block
from flows.service.gpu_slot import ensure_gpu_limit
from flows.service.serving import POOL
from tasks.job import PROJECT_ROOT

TEMPLATES = PROJECT_ROOT / "infra" / "work_pools"
QUEUES = ("cpu", "gpu")


def template_of(kind: str) -> dict[str, Any]:
    """The base job template of infra/work_pools. Raises UsageError for a kind that has none."""
    path = TEMPLATES / f"{kind}.json"
    if not path.is_file():
        kinds = ", ".join(sorted(p.stem for p in TEMPLATES.glob("*.json")))
        raise UsageError(f"`{kind}`: no such kind of work pool, expected one of {kinds or 'those of a checkout'}")
    return json.loads(path.read_text(encoding="utf-8"))


def set_up_server(
    kind: str, gpu_limit: str, num_gpu_slots: int, job_variables: dict[str, Any], automations: Path, notify_url: str
) -> dict[str, list[str]]:
    """Makes what is missing and brings the rest up to date; doing it again changes nothing.

    job_variables: defaults of the pool for this machine, such as `working_dir`. notify_url: webhook that failures are
    told to; empty keeps the one that the server has. Returns the names of deployments and automations.
    """
    template = template_of(kind)
    for name, value in job_variables.items():
        template["variables"]["properties"][name]["default"] = value
    with get_client(sync_client=True) as client:
        _make_pool(client, "process" if kind == "slurm" else kind, template)
        for queue in QUEUES:
            try:
                client.read_work_queue_by_name(queue, work_pool_name=POOL)
            except ObjectNotFound:
                client.create_work_queue(queue, work_pool_name=POOL)
    ensure_gpu_limit(gpu_limit, num_gpu_slots)
    deployments = register_deployments()
    if notify_url:
        save_notify_block(notify_url)
    with get_client(sync_client=True) as client:
        return {"deployments": deployments, **apply_automations(client, automations)}


def _make_pool(client: SyncPrefectClient, kind: str, template: dict[str, Any]) -> None:
    try:
        pool = client.read_work_pool(POOL)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=POOL, type=kind, base_job_template=template))
        return
    if pool.type != kind:
        raise UsageError(
            f"`{POOL}`: found a work pool of type {pool.type}, expected {kind}",
            hint=f"prefect work-pool delete {POOL}",
        )
    client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))


def register_deployments() -> list[str]:
    """`prefect deploy --all` of this checkout's prefect.yaml. Returns their names.

    Raises UsageError with what Prefect said where it refuses one.
    """
    file = PROJECT_ROOT / "prefect.yaml"
    if not file.is_file():
        raise UsageError("`prefect.yaml`: found none, expected that of a checkout", hint="pip install -e CHECKOUT")
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=PROJECT_ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UsageError(
            f"`prefect deploy --all`: exit {done.returncode}\n{done.stdout.strip()}\n{done.stderr.strip()}"
        )
    return [deployment["name"] for deployment in yaml.safe_load(file.read_text(encoding="utf-8"))["deployments"]]
