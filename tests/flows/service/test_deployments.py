"""prefect.yaml: every deployment is whole and fits its flow; and which stages take the GPU's slot."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import yaml

from flows.recipes import PipelineConfig
from flows.service.gpu_slot import needs_gpu
from tasks.runtime import Runtime
from tasks.stage import Request
from tasks.stages import EVALUATE, FILTER, PRETRAIN
from tasks.training.executors import executor_of

ROOT = Path(__file__).resolve().parents[3]
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_parameters_of_a_deployment_fit_its_flow(deployment):
    module, _, name = deployment["entrypoint"].rpartition(".")
    flow = getattr(import_module(module), name)
    parameters = flow.validate_parameters(deployment["parameters"])
    assert parameters["config"].recipe == deployment["parameters"]["config"]["recipe"]


def test_every_flow_has_a_deployment():
    assert {d["entrypoint"].rsplit(".", 1)[1] for d in DEPLOYMENTS} == {"pipeline", "corpus", "training"}


def test_schedules_that_cost_hours_are_paused_and_the_nightly_demo_is_not():
    active = {d["name"]: s["active"] for d in DEPLOYMENTS for s in d["schedules"]}
    assert active == {name: name == "demo" for name in active}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_a_deployment_says_when_where_and_how_often_at_a_time_it_runs(deployment):
    assert [s["timezone"] for s in deployment["schedules"]] == ["Asia/Tokyo"]
    assert "tsuzuki" in deployment["tags"]
    assert deployment["concurrency_limit"]["limit"] == 1
    assert deployment["concurrency_limit"]["collision_strategy"] in ("ENQUEUE", "CANCEL_NEW")
    queue = deployment["work_pool"]["work_queue_name"]
    assert queue in deployment["tags"]
    config = PipelineConfig.model_validate(deployment["parameters"]["config"])
    trains_on_gpu = not deployment["entrypoint"].endswith(".corpus") and config.pretrain.device == "cuda"
    assert queue == ("gpu" if trains_on_gpu else "cpu")


@pytest.mark.filterwarnings("ignore")
def test_the_form_in_the_ui_asks_for_no_section_that_the_recipe_fills():
    assert "required" not in PipelineConfig.model_json_schema()
    assert not any(deployment["enforce_parameter_schema"] for deployment in DEPLOYMENTS)


def requests() -> dict[str, Request]:
    """One use of a stage for each way it could touch a GPU."""
    demo, workshop = (PipelineConfig.model_validate({"recipe": name}) for name in ("demo", "workshop-qwen25-0.5b"))
    nemo = workshop.pretrain.model_copy(update={"backend": "nemo"})
    uses = {
        "demo": (PRETRAIN, demo.pretrain),
        "workshop": (PRETRAIN, workshop.pretrain),
        "nemo": (PRETRAIN, nemo),
        "evaluation": (EVALUATE, workshop.evaluate),
        "filter": (FILTER, demo.filters),
    }
    return {name: Request(stage, config, {}, {}) for name, (stage, config) in uses.items()}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"workshop", "nemo", "evaluation"}),
        ({"engine": "cudf"}, {"workshop", "nemo", "evaluation", "filter"}),
        ({"executor": {"kind": "torchrun", "num_gpus": 2}}, {"workshop", "nemo", "evaluation"}),
        ({"executor": {"kind": "slurm", "account": "a", "partition": "p"}}, {"workshop", "evaluation"}),
    ],
)
def test_stages_that_work_on_a_gpu_of_this_machine_are_known(changes, expected, tmp_path):
    runtime = Runtime(
        store=tmp_path, **{**changes, "executor": executor_of(changes.get("executor", {"kind": "inline"}))}
    )
    assert {name for name, request in requests().items() if needs_gpu(request, runtime)} == expected
