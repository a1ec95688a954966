#!/bin/sh
# Fetches the wheels of a list for Python 3.12 on x86-64 Linux, and cuts one tar of them into parts, each small enough
# for a machine that takes at most 64 MiB at once.
#   sh infra/gpu/fetch_wheels.sh         wheels.txt to .gpu/wheels, cut into .gpu/parts/part-NN
#   sh infra/gpu/fetch_wheels.sh nemo    nemo_wheels.txt to .gpu/nemo-wheels, cut into .gpu/nemo-parts/part-NN
# With `nemo`, the tar holds .gpu/nemo-material too: tests/benchmarks/nemo_proof/material.py makes it.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
list=infra/gpu/${1:+$1_}wheels.txt
wheels=.gpu/${1:+$1-}wheels
parts=.gpu/${1:+$1-}parts
mkdir -p "$wheels"
platforms=
for name in 2_34 2_28 2_27 2_26 2_24 2_17 2_12 2_5; do platforms="$platforms --platform manylinux_${name}_x86_64"; done
for name in 2014 2010 1; do platforms="$platforms --platform manylinux${name}_x86_64"; done
grep -v '^#' "$list" | while read -r requirement mark; do
  if [ "$mark" = "# sdist" ]; then
    "$python" -m pip wheel -q --no-deps -w "$wheels" "$requirement"
    continue
  fi
  # shellcheck disable=SC2086
  "$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    $platforms -d "$wheels" "$requirement"
done
rm -rf "$parts"
mkdir "$parts"
if [ "${1:-}" = nemo ]; then
  sh infra/gpu/fetch_transformer_engine.sh "$(sed -n 's/^transformer-engine==//p' "$list")" "$wheels"
  mkdir -p .gpu/nemo-material
  tar -C .gpu -cf - nemo-wheels nemo-material | split -b 60M -d - "$parts/part-"
else
  tar -C "$wheels" -cf - . | split -b 56M -d - "$parts/part-"
fi
ls -l "$parts"
