#!/bin/sh
# The backend `nemo` on this machine's GPU, section by section; logs and figures go to $OUT. Sections may run at once.
#   sh infra/gpu/nemo.sh SECTION [WORD...]
# setup      joins the parts, installs (nemo_install.sh WORD...), makes and proves the models meanwhile
# contract   the contract tests of the training backends on the GPU
# proof      the steps WORD... of tests/benchmarks/nemo_proof/proof.py; `--` before more of its options
# speed      the variants WORD... of tests/benchmarks/nemo_proof/speed.py
# parallel   a step and the layouts WORD... of tests/benchmarks/nemo_proof/parallel.py, on two GPUs
set -eu
cd "$(dirname "$0")/../.."
section=$1
shift
OUT=${OUT:-/tmp/out}
mkdir -p "$OUT"
nemo_python=/tmp/nemo-env/bin/python
export OUT PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 WANDB_MODE=disabled TOKENIZERS_PARALLELISM=false
proof=tests/benchmarks/nemo_proof

# run COMMAND...: all it prints goes to $OUT/SECTION.txt behind what is there, the end of it to the terminal.
run() {
  log=$(mktemp)
  status=0
  "$@" >"$log" 2>&1 || status=$?
  cat "$log" >>"$OUT/$section.txt"
  tail -n 25 "$log" | cut -c 1-500
  return "$status"
}

case $section in
setup)
  export MEANWHILE="python3 $proof/proof.py prepare"
  run sh infra/gpu/nemo_install.sh "$@"
  ;;
contract)
  run env TSUZUKI_TEST_DEVICE=cuda TSUZUKI_TEST_NEMO_PYTHON=$nemo_python python3 -m pytest \
    -o filterwarnings=default -p no:cacheprovider -n 12 -v --durations=10 "$@" \
    tests/tasks/training/test_backend_contract.py
  ;;
proof)
  run python3 $proof/proof.py "$@"
  ;;
speed)
  run python3 $proof/speed.py "$@"
  ;;
parallel)
  run python3 $proof/parallel.py "$@"
  ;;
*)
  echo "error: \`$section\`: expected setup, contract, proof, speed or parallel" >&2
  exit 2
  ;;
esac
