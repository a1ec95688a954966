#!/bin/sh
# Joins the parts in /tmp/wheels and installs what is in them, without any network, beside torch and CuPy.
#   sh infra/gpu/install.sh
# They go into the interpreter's own environment: libcudf takes the CUDA libraries that it finds there, and needs a newer
# nvJitLink than torch brings.
set -eu
mkdir -p /tmp/wheels/files
cat /tmp/wheels/part-* | tar -C /tmp/wheels/files -xf -
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir /tmp/wheels/files/*.whl
python3 - <<'PY'
import importlib.metadata as metadata
import time

started = time.perf_counter()
import cudf, cupy, numba, numpy, pandas, pyarrow, pylibcudf, rmm  # noqa

names = "cudf-cu13 cupy-cuda13x numba numpy pandas pyarrow pydantic torch xxhash nvidia-nvjitlink".split()
print({name: metadata.version(name) for name in names}, f"imports {time.perf_counter() - started:.1f} s")
print(cudf.Series([3, 1, 2]).sort_values().to_arrow().to_pylist(), cupy.cuda.runtime.getDeviceProperties(0)["name"])
PY
