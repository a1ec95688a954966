#!/bin/sh
# Fetches the wheels of wheels.txt for Python 3.12 on x86-64 Linux into .gpu/wheels, and cuts one tar of them into
# .gpu/parts/part-NN, each small enough for a machine that takes at most 64 MiB at once.
#   sh infra/gpu/fetch_wheels.sh
set -eu
cd "$(dirname "$0")/../.."
mkdir -p .gpu/wheels
platforms=
for name in 2_28 2_27 2_26 2_24 2_17 2_12 2_5; do platforms="$platforms --platform manylinux_${name}_x86_64"; done
for name in 2014 2010 1; do platforms="$platforms --platform manylinux${name}_x86_64"; done
grep -v '^#' infra/gpu/wheels.txt | while read -r requirement; do
  # shellcheck disable=SC2086
  ${PYTHON:-python3} -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    $platforms -d .gpu/wheels "$requirement"
done
rm -rf .gpu/parts
mkdir .gpu/parts
tar -C .gpu/wheels -cf - . | split -b 56M -d - .gpu/parts/part-
ls -l .gpu/parts
