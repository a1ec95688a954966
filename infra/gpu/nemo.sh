#!/bin/sh
# The backend `nemo` on this machine's GPU, section by section; logs and figures go to $OUT.
#   sh infra/gpu/nemo.sh SECTION [WORD...]
# setup      joins the parts, installs (nemo_install.sh WORD...), makes and proves the models meanwhile
# contract   the contract tests of the training backends on the GPU
# proof      the steps WORD... of tests/benchmarks/nemo_proof/proof.py; `--` before more of its options
# speed      the variants WORD... of tests/benchmarks/nemo_proof/speed.py
set -eu
cd "$(dirname "$0")/../.."
section=$1
shift
OUT=${OUT:-/tmp/out}
mkdir -p "$OUT"
nemo_python=/tmp/nemo-env/bin/python
export OUT PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 WANDB_MODE=disabled TOKENIZERS_PARALLELISM=false
proof=tests/benchmarks/nemo_proof

# run NAME COMMAND...: all it prints goes to $OUT/NAME.txt, the end of that to the terminal.
run() {
  name=$1
  shift
  status=0
  "$@" >"$OUT/$name.txt" 2>&1 || status=$?
  tail -n 40 "$OUT/$name.txt" | cut -c 1-600
  return "$status"
}

case $section in
setup)
  export MEANWHILE="python3 $proof/proof.py prepare"
  run setup sh infra/gpu/nemo_install.sh "$@"
  ;;
contract)
  run contract env TSUZUKI_TEST_DEVICE=cuda TSUZUKI_TEST_NEMO_PYTHON=$nemo_python python3 -m pytest \
    -o filterwarnings=default -p no:cacheprovider -n 12 -v --durations=10 "$@" \
    tests/tasks/training/test_backend_contract.py
  ;;
proof)
  run proof python3 $proof/proof.py "$@"
  ;;
speed)
  run speed python3 $proof/speed.py "$@"
  ;;
*)
  echo "error: \`$section\`: expected setup, contract, proof or speed" >&2
  exit 2
  ;;
esac
