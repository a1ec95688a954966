#!/bin/sh
# Dedup by the engine `cudf` on this machine's GPUs: its tests, then its benchmark; logs go to $OUT.
#   sh infra/gpu/dedup.sh tests
#   sh infra/gpu/dedup.sh bench 1000000 [WARM_RUNS [MORE_OPTIONS_OF_dedup_gpu.py...]]
#   sh infra/gpu/dedup.sh filters 1000000
set -eu
cd "$(dirname "$0")/../.."
OUT=${OUT:-/tmp/out}
mkdir -p "$OUT"
export PYTHONUNBUFFERED=1 KVIKIO_NTHREADS="$(nproc)"
{ date -u +%F; nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader; nproc; python3 -V
  python3 -m pip list --format=freeze 2>/dev/null | grep -iE '^(cudf|cupy|rmm|libcudf|numba|numpy|pyarrow|pandas)'
} >"$OUT/machine.txt"
case $1 in
tests)
  # Warnings of RAPIDS are not ours to fail on.
  python3 -m pytest -m gpu -o filterwarnings=default -p no:cacheprovider -v --durations=10 \
    tests/tasks/curation/test_device_engine.py tests/tasks/curation/test_several_devices.py \
    tests/tasks/curation/test_device_filters.py tests/tasks/curation/test_splitting.py tests/gpu \
    >"$OUT/tests.txt" 2>&1 || failed=$?
  tail -n 60 "$OUT/tests.txt"
  exit "${failed:-0}"
  ;;
bench)
  number=$2 warm_runs=${3:-2}
  shift $(($# < 3 ? $# : 3))
  python3 tests/benchmarks/dedup_gpu.py --documents "$number" --warm-runs "$warm_runs" --workers "$(nproc)" "$@" \
    >"$OUT/bench-$number.jsonl" 2>"$OUT/bench-$number.log" || failed=$?
  cat "$OUT/machine.txt" "$OUT/bench-$number.jsonl"
  tail -n 40 "$OUT/bench-$number.log"
  exit "${failed:-0}"
  ;;
filters)
  python3 tests/benchmarks/filter_gpu.py --documents "$2" --workers "$(nproc)" \
    >"$OUT/filters-$2.jsonl" 2>"$OUT/filters-$2.log" || failed=$?
  cat "$OUT/machine.txt" "$OUT/filters-$2.jsonl"
  tail -n 40 "$OUT/filters-$2.log"
  exit "${failed:-0}"
  ;;
esac
