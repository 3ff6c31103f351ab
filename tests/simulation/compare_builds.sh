#!/usr/bin/env bash
# compare_builds.sh FOLDER [SEEDS [STEPS]]: builds the simulation with g++ and with clang++, each at
# -O0, at -O2, and at -O3 for the processor at hand, without sanitizers, and compares the hashes of
# its traces. FOLDER keeps objects. It calls the compilers itself: a build folder of CMake has one
# compiler only.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
folder="${1:?compare_builds.sh FOLDER [SEEDS [STEPS]]}"
seeds="${2:-200}"
steps="${3:-5000}"
cd "$root"
[[ "$seeds" =~ ^[1-9][0-9]*$ && "$steps" =~ ^[1-9][0-9]*$ ]] \
  || { echo "SEEDS and STEPS are numbers, not $seeds and $steps" >&2; exit 2; }

command -v pkg-config > /dev/null || { echo "pkg-config is needed to find Abseil" >&2; exit 1; }
read -ra libraries < <(pkg-config --libs absl_status absl_statusor absl_strings absl_raw_hash_set \
  absl_hash)
launcher=()
if command -v ccache > /dev/null; then launcher=(ccache); fi
compilers=()
for compiler in g++ clang++-14; do
  if command -v "$compiler" > /dev/null; then
    compilers+=("$compiler")
  else
    echo "no $compiler: nothing to compare with" >&2
    exit 1
  fi
done

# Of the library what touches no device: that is all the simulation uses.
sources=(tests/simulation/main.cc tests/support/simulation_*.cc)
for source in lib/*.cc; do [[ "$source" == *device* ]] || sources+=("$source"); done

# -march=native brings fused multiplies where the processor has them; lib/CMakeLists.txt says why
# the compiler may not use them.
levels=("-O0 -mtune=generic" "-O2 -mtune=generic" "-O3 -march=native")

# A line for each argument: compiler, options, source, object.
jobs() {
  local compiler level source options
  for compiler in "${compilers[@]}"; do
    for level in "${levels[@]}"; do
      read -ra options <<< "$level"
      mkdir -p "$folder/$compiler${options[0]}"
      # What is no source any more is not linked.
      rm -f "$folder/$compiler${options[0]}"/*.o
      for source in "${sources[@]}"; do
        printf '%s\n' "$compiler" -std=c++20 -ffp-contract=off "${options[@]}" -Iinclude -I. \
          -c "$source" -o "$folder/$compiler${options[0]}/$(basename "$source" .cc).o"
      done
    done
  done
}
jobs | xargs -d '\n' -n 11 -P "$(nproc)" "${launcher[@]}"

failed=0
reference=""
for compiler in "${compilers[@]}"; do
  for level in -O0 -O2 -O3; do
    build="$folder/$compiler$level"
    "$compiler" "$build"/*.o -o "$build/quire_simulation" "${libraries[@]}"
    "$build/quire_simulation" 0 "$seeds" "$steps" > "$build/hashes" || failed=1
    reference="${reference:-$build/hashes}"
    if ! diff "$reference" "$build/hashes"; then
      echo "$compiler $level: other traces than $(dirname "$reference")" >&2
      failed=1
    fi
  done
done
if ((failed != 0)); then exit 1; fi
echo "scorecard: builds: $seeds seeds of $steps steps have the same traces with ${compilers[*]}," \
  "each -O0, -O2 and -O3 -march=native"
