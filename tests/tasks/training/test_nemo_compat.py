"""NeMo runs where packages are absent that it takes for granted, and each shim stands aside where they are there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from micro_model import MICRO
from nemo_environment import ROOT, run_nemo
from tasks.models.tiny import make_tiny
from tasks.training import nemo_compat

CHECKS = ROOT / "tests" / "support" / "nemo_training_checks.py"
LEPTON_SCRIPT = """
from tasks.training.nemo_compat import stub_leptonai
print(stub_leptonai(), stub_leptonai())
from leptonai.api.v1.types.job import LeptonJobState
from leptonai.api.v2.client import APIClient
print(LeptonJobState.Running == LeptonJobState.Running, len({LeptonJobState.Running, LeptonJobState.Failed}))
"""


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `nemo_training_checks.py` found."""
    folder = tmp_path_factory.mktemp("nemo")
    (folder / "model").mkdir()
    make_tiny(MICRO, folder / "model")
    run_nemo(CHECKS, folder / "model", folder, folder / "result.json")
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


@pytest.mark.long
def test_a_tiny_model_is_imported_trained_resumed_and_tuned(checks: dict[str, Any]) -> None:
    assert [len(checks[part]) for part in ("pretrained", "resumed", "tuned")] == [3, 2, 2]
    assert checks["pretrained"][0] == checks["tuned"][0]  # both began with the imported weights
    assert checks["resumed"][0] != checks["pretrained"][0]
    assert checks["checkpoints"] == ["step=4-last"]


@pytest.mark.long
def test_preparing_twice_is_preparing_once(checks: dict[str, Any]) -> None:
    assert checks["shims"] == checks["again"] == [shim.__name__ for shim in nemo_compat.SHIMS]


def test_an_absent_leptonai_can_be_imported_and_its_names_compared() -> None:
    done = subprocess.run([sys.executable, "-c", LEPTON_SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True True", "True 2"]


def test_an_installed_leptonai_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "leptonai").mkdir()
    (tmp_path / "leptonai" / "__init__.py").write_text("VERSION = 'the real one'\n", encoding="utf-8")
    script = (
        "from tasks.training.nemo_compat import stub_leptonai as s; print(s()); import leptonai as l; print(l.VERSION)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["False", "the real one"]


def test_numpy_counts_elements_under_the_name_that_megatron_calls() -> None:
    script = "from tasks.training.nemo_compat import name_numpy_product as s; print(s(), s())\n"
    script += "import numpy; print(numpy.product((3, 4)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True True", "12"]


def test_a_numpy_that_still_has_the_name_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy

    own = object()
    monkeypatch.setattr(numpy, "product", own, raising=False)
    assert not nemo_compat.name_numpy_product()
    assert numpy.product is own  # pyright: ignore[reportAttributeAccessIssue]


def test_with_transformer_engine_present_no_layer_is_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    untouched = object()
    base, lora = ModuleType("base"), ModuleType("lora")
    base.HAVE_TE = lora.HAVE_TE = True  # pyright: ignore[reportAttributeAccessIssue]
    lora.te = untouched  # pyright: ignore[reportAttributeAccessIssue]
    io, logger = ModuleType("io"), ModuleType("nemo_logger")
    io.apply_transforms = logger.lcp = untouched  # pyright: ignore[reportAttributeAccessIssue]
    logger.HAVE_RES = True  # pyright: ignore[reportAttributeAccessIssue]
    _install(monkeypatch, "nemo.collections.llm.gpt.model", base=base)
    _install(
        monkeypatch,
        "nemo.collections.llm.peft",
        lora=lora,
        module_matcher=ModuleType("module_matcher"),
        utils=ModuleType("utils"),
    )
    _install(monkeypatch, "nemo.lightning", io=io, nemo_logger=logger)

    of_other_packages = (nemo_compat.stub_leptonai, nemo_compat.name_numpy_product)
    shims = [shim for shim in nemo_compat.SHIMS if shim not in of_other_packages]
    assert shims and not any(shim() for shim in shims)
    assert io.apply_transforms is logger.lcp is lora.te is untouched


def _install(monkeypatch: pytest.MonkeyPatch, package: str, **modules: ModuleType) -> None:
    """Puts modules where NeMo has them, in this process, which has no NeMo."""
    parts = package.split(".")
    for place in range(1, len(parts) + 1):
        name = ".".join(parts[:place])
        if name not in sys.modules:
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name, module in modules.items():
        setattr(sys.modules[package], name, module)
