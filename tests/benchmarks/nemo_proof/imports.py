"""Imports what the backend `nemo` needs and prints every failure at once; ends with 1 if there is any.

/tmp/nemo-env/bin/python tests/benchmarks/nemo_proof/imports.py [without-te]
"""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
MODULES = (
    *("torch", "transformers", "peft", "safetensors.torch", "pydantic", "orjson", "pyarrow", "gguf"),
    *("lightning.pytorch", "fiddle", "omegaconf", "hydra", "webdataset", "torchx", "tensorstore", "zarr", "modelopt"),
    *("pulp", "nemo_run", "tasks.training.nemo_compat"),
    *("megatron.core", "megatron.core.datasets.gpt_dataset", "megatron.core.optimizer"),
    *("nemo.lightning", "nemo.lightning.pytorch.strategies", "nemo.collections.llm", "nemo.collections.llm.recipes"),
    *("nemo.collections.llm.peft", "nemo.collections.llm.gpt.data", "nemo.collections.llm.inference"),
    *("nemo.collections.llm.gpt.model.qwen2", "nemo.collections.llm.gpt.model.llama"),
)
ENGINE = (
    *("transformer_engine", "transformer_engine_torch", "transformer_engine.pytorch"),
    *("megatron.core.extensions.transformer_engine",),
)
VERSIONS = (
    *("torch", "transformers", "nemo_toolkit", "megatron-core", "nemo_run", "lightning", "transformer_engine"),
    *("transformer_engine_torch", "transformer_engine_cu13", "nvidia-modelopt", "numpy", "protobuf", "peft", "fiddle"),
)
SLOW_SECONDS = 1.0


def main() -> int:
    modules = MODULES if sys.argv[1:] == ["without-te"] else (*ENGINE[:3], *MODULES, *ENGINE[3:])
    failures: dict[str, BaseException] = {}
    shims = attempt("the shims", failures, shims_on)
    for name in modules:
        attempt(name, failures, lambda name=name: importlib.import_module(name))
    for name, error in failures.items():
        print(f"FAILED {name}")
        print("".join(traceback.format_exception(error)[-6:]))
    print("shims:", shims)
    print({name: version(name) for name in VERSIONS})
    print(f"{len(modules)} modules, {len(failures)} failures: {', '.join(failures) or 'none'}")
    return min(1, len(failures))


def attempt(name: str, failures: dict[str, BaseException], action: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    try:
        return action()
    except (Exception, SystemExit) as error:
        failures[name] = error
        return None
    finally:
        if (seconds := time.perf_counter() - started) > SLOW_SECONDS:
            print(f"{name}: {seconds:.1f} s")


def shims_on() -> list[str]:
    """Names of the shims that NeMo needs here."""
    from tasks.training.nemo_compat import prepare

    return prepare()


def version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    sys.exit(main())
