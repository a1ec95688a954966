#!/bin/sh
# Fetches the source of transformer_engine_torch into a folder; it is built where the GPU is.
#   sh infra/gpu/fetch_transformer_engine.sh VERSION FOLDER
# pip asks a source for its metadata before it hands it over, and this one then asks torch for its CUDA. Fetching needs
# neither: an environment of a moment holds a torch that only has a version.
set -eu
test ! -f "$2/transformer_engine_torch-$1.tar.gz" || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/env"
"$work/env/bin/python" -m pip install -q setuptools wheel packaging pybind11
torch=$("$work/env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch
mkdir -p "$torch/utils"
touch "$torch/utils/__init__.py"
cat >"$torch/__init__.py" <<'PY'
class version:
    cuda = "13.0"
PY
cat >"$torch/utils/cpp_extension.py" <<'PY'
from setuptools import Extension
from setuptools.command.build_ext import build_ext as BuildExtension  # noqa

CUDA_HOME = None


def CppExtension(name, sources, **_):
    return Extension(name, sources)


CUDAExtension = CppExtension
PY
"$work/env/bin/python" -m pip download -q --no-deps --no-binary=:all: --no-build-isolation -d "$2" \
  "transformer_engine_torch==$1"
