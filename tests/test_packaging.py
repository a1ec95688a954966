"""What the code imports is what `pyproject.toml` declares and `constraints.txt` pins."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = {"flows", "tasks", "infra", "data_contracts", *(p.stem for p in (ROOT / "tests" / "support").glob("*.py"))}
ELSEWHERE = {
    "lightning": "in the environment of the backend nemo",
    "megatron": "installed by `make` without its dependencies",
    "nemo": "in the environment of the backend nemo",
    "docker": "beside NeMo, in an environment of its own",
    "nemo_curator": "in an environment of its own",
    "nemo_run": "in the environment of the backend nemo",
    "ray": "in an environment of its own",
}
GPU = {"cudf", "cupy", "dask_cuda", "pylibcudf", "rmm"}
GPU |= {"cudf-cu13", "cupy-cuda13x", "dask-cuda", "pylibcudf-cu13", "rmm-cu13"}
OPTIONAL = {"kenlm", "sudachipy"} | GPU
"""Of extras that need a compiler, a big dictionary or a GPU; users are told the command when they are missing."""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for group in project["optional-dependencies"].values() for name in group]
    return {normalized(re.split(r"[\[ ;=<>]", name)[0]) for name in [*project["dependencies"], *extras]}


def imported() -> dict[str, Path]:
    """Top-level names that any module of the project or its tests imports, each with one place that does."""
    found: dict[str, Path] = {}
    for folder in ("flows", "tasks", "infra", "data_contracts", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            if "benchmarks" in path.parts:
                continue  # the peers live in an environment of their own
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                found |= {name.split(".")[0]: path for name in names}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | OURS | {"__future__"}}


def test_every_imported_package_is_declared() -> None:
    distributions = packages_distributions()
    undeclared = {}
    for name, path in imported().items():
        owners = {normalized(owner) for owner in distributions.get(name, [])}
        if name not in ELSEWHERE and name not in OPTIONAL and not owners & declared():
            undeclared[name] = str(path.relative_to(ROOT))
    assert undeclared == {}


def test_every_declared_package_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {normalized(line.split("==")[0]) for line in lines if "==" in line}
    assert declared() - pinned - {"tsuzuki"} - OPTIONAL == set()
