"""Runs one stage body from a JSON description; started by the tests that kill it."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

from data_contracts.artifacts import type_named
from tasks.runtime import Runtime
from tasks.training import config as configs
from tasks.workspace import Workspace

if __name__ == "__main__":
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(spec["workspace"])
    module, _, function = spec["function"].partition(":")
    inputs = {name: type_named(kind).open(path) for name, (kind, path) in spec["inputs"].items()}
    config = getattr(configs, spec["config_type"]).model_validate(spec["config"])
    runtime = Runtime.model_validate({"store": folder.parent, **spec["runtime"]})
    getattr(import_module(module), function)(config, Workspace(folder, runtime), **inputs)
