#!/bin/sh
# NeMo Curator's dedup workflows on this machine's GPU, beside ours; logs go to $OUT.
#   sh infra/gpu/curator.sh install                    joins the parts in /tmp/wheels and installs what is in them
#   sh infra/gpu/curator.sh bench 1000000 [SETTINGS]   over that many documents, kept in /tmp/curator-corpus
# They go into the interpreter's own environment: RAPIDS takes the CUDA libraries that PyTorch brought there.
set -eu
cd "$(dirname "$0")/../.."
OUT=${OUT:-/tmp/out}
mkdir -p "$OUT"
export PYTHONUNBUFFERED=1 KVIKIO_NTHREADS="$(nproc)"
case $1 in
install)
  mkdir -p /tmp/wheels/files
  cat /tmp/wheels/part-* | tar -C /tmp/wheels/files -xf -
  find /tmp/wheels/files -name '*.whl' -print0 |
    xargs -0 -P 8 -n 4 python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir
  rm -rf /tmp/wheels
  python3 tests/benchmarks/peers/curator_dedup.py --imports
  ;;
bench)
  { date -u +%F; nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader; nproc; python3 -V
    python3 -m pip list --format=freeze 2>/dev/null | grep -iE \
      '^(nemo|ray==|cudf|libcugraph|pylibcugraph|raft-dask|rapidsmpf|ucxx|cupy|cuda-|numba|numpy=|pandas|pyarrow|nvidia-n)'
  } >"$OUT/machine.txt"
  set -- "$2" "${3:-}"
  python3 tests/benchmarks/dedup_curator.py --documents "$1" --corpus /tmp/curator-corpus --workers "$(nproc)" \
    ${2:+--settings "$2"} >"$OUT/curator.jsonl" 2>"$OUT/curator.log" || failed=$?
  cat "$OUT/machine.txt" "$OUT/curator.jsonl"
  tail -n 60 "$OUT/curator.log"
  exit "${failed:-0}"
  ;;
esac
