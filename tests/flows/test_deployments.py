"""prefect.yaml: every deployment's entrypoint is a flow and its parameters fit that flow."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
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


def test_schedules_that_cost_hours_are_paused():
    assert not [s for d in DEPLOYMENTS for s in d.get("schedules", []) if s["active"]]
