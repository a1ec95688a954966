"""The files that run Tsuzuki on servers: work pools' job templates, compose.yaml, Dockerfiles."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from command_line import ROOT

TEMPLATES = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in (ROOT / "infra" / "work_pools").glob("*.json")}
COMPOSE = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text(encoding="utf-8"))
WORKERS = [name for name in COMPOSE["services"] if name.startswith("worker-")]
DOCKERFILES = sorted((ROOT / "infra" / "containers").glob("*.Dockerfile"))


def defaults(template: dict[str, Any]) -> dict[str, Any]:
    return {name: schema["default"] for name, schema in template["variables"]["properties"].items()}


def test_there_is_a_template_for_every_kind_of_work_pool():
    assert set(TEMPLATES) == {"process", "docker", "kubernetes", "slurm"}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_template_uses_exactly_the_variables_that_it_declares(kind):
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(TEMPLATES[kind]["job_configuration"])))
    assert used == set(TEMPLATES[kind]["variables"]["properties"])


@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_variables_of_a_template_are_a_schema_that_its_own_defaults_fit(kind):
    variables = TEMPLATES[kind]["variables"]
    jsonschema.Draft202012Validator.check_schema(variables)
    jsonschema.validate(defaults(TEMPLATES[kind]), variables)
    assert all(schema["title"] and schema["description"] for schema in variables["properties"].values())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["process", "slurm"])
def test_the_process_worker_takes_the_job_that_a_template_makes(kind):
    from prefect.utilities.templating import apply_values
    from prefect.workers.process import ProcessJobConfiguration

    values = {**defaults(TEMPLATES[kind]), "env": {"名": "値"}}
    job = ProcessJobConfiguration.model_validate(apply_values(TEMPLATES[kind]["job_configuration"], values))
    assert job.env == {"名": "値"}
    words = shlex.split(job.command or "")
    assert (words[:1], words[-2:]) == ((["srun"], ["-m", "prefect.engine"]) if kind == "slurm" else ([], []))
    assert not any("{{" in word for word in words)


def test_the_kubernetes_job_mounts_the_store_and_may_have_gpus():
    job = TEMPLATES["kubernetes"]["job_configuration"]["job_manifest"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert "nvidia.com/gpu" in container["resources"]["limits"]
    assert pod["restartPolicy"] == "Never"


def test_a_service_that_another_waits_for_can_be_waited_for():
    for name, service in COMPOSE["services"].items():
        for other, how in service.get("depends_on", {}).items():
            waited_for = COMPOSE["services"][other]
            if how["condition"] == "service_healthy":
                assert waited_for["healthcheck"]["test"][0] == "CMD", f"{name} waits for {other}"
            else:
                assert (how["condition"], waited_for["restart"]) == ("service_completed_successfully", "no")


def test_services_come_back_and_workers_share_one_store():
    assert {s["restart"] for n, s in COMPOSE["services"].items() if n != "setup"} == {"unless-stopped"}
    assert all("healthcheck" in s for n, s in COMPOSE["services"].items() if n != "setup")
    for name in WORKERS:
        worker = COMPOSE["services"][name]
        assert worker["volumes"] == ["store:/store"]
        assert worker["environment"]["TSUZUKI_STORE"] == "/store"
    mounted = {v.split(":")[0] for s in COMPOSE["services"].values() for v in s.get("volumes", [])}
    assert mounted == set(COMPOSE["volumes"])


def test_workers_poll_the_queues_that_the_deployments_use():
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    commands = {name: COMPOSE["services"][name]["command"] for name in WORKERS}
    polled = {words[words.index("--work-queue") + 1] for words in commands.values()}
    assert polled == {deployment["work_pool"]["work_queue_name"] for deployment in deployments}
    pools = {words[words.index("--pool") + 1] for words in commands.values()}
    assert pools == {deployment["work_pool"]["name"] for deployment in deployments}


def test_only_the_loopback_is_published_and_the_server_wants_a_password():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:4200:4200"]
    assert COMPOSE["services"]["server"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"].startswith("${")


def test_no_secret_stands_in_a_file():
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("TOKEN|KEY|PASSWORD|AUTH", name):
                assert value is None or re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name
    for template in TEMPLATES.values():
        assert not re.search("TOKEN|KEY|PASSWORD", json.dumps(defaults(template)))


def test_the_server_of_compose_is_the_version_that_is_pinned():
    pinned = dict(re.findall(r"^(\S+?)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))["prefect"]
    assert COMPOSE["services"]["server"]["image"].startswith(f"prefecthq/prefect:{pinned}-")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.stem)
def test_a_dockerfile_is_built_by_compose_or_named_by_it_and_ends_as_an_ordinary_user(path: Path):
    built = [service["build"]["dockerfile"] for service in COMPOSE["services"].values() if "build" in service]
    assert str(path.relative_to(ROOT)) in built
    instructions = [line.split()[0] for line in path.read_text().splitlines() if re.match("[A-Z]+ ", line)]
    assert instructions[0] == "FROM"
    assert set(instructions) <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "CMD"}
    assert "USER 1000:1000" in path.read_text()


def test_everything_that_a_container_needs_is_in_the_build_context():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not {"flows", "tasks", "infra", "data_contracts", "prefect.yaml", "pyproject.toml"} & set(ignored)
    assert {".git", "tsuzuki-store"} <= set(ignored)
