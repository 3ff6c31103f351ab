#!/usr/bin/env bash
# scorecard.sh: the figures of docs/reliability.md that take minutes, for `./dev scorecard` and
# `./dev soak`, which build what it runs. A test says what its figure is in a line that begins with
# `scorecard: `; a new one belongs into `tests` below, or has a job of its own.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
log="$root/build/scorecard.log"
tests=(argument_matrix_test collision_test fault_loop_test liveness_test model_test partition_test
  scrub_canary_test simulation_test strict_test protocol_failed_copy protocol_lookup_pin_evict
  protocol_plan_holds)

for tool in spin pkg-config clang++-14; do
  command -v "$tool" > /dev/null || { echo "scorecard: $tool is needed (.ci/packages.txt)" >&2; exit 1; }
done
failed=0
rm -f "$log"
(cd "$root" && QUIRE_FAULT_PAIRS=1 ctest --preset release -j "$(nproc)" \
  -R "^($(IFS='|'; echo "${tests[*]}"))(_[0-9]_of_[0-9])?$") >&2 || failed=1
grep -a '^ *scorecard: ' "$root/build/release/Testing/Temporary/LastTest.log" >> "$log" || failed=1
run() {
  echo "scorecard.sh: $*" >&2
  "$@" >> "$log" 2>&1 || { tail -n 40 "$log" >&2; failed=1; }
}
run "$root/tests/simulation/compare_builds.sh" "$root/build/simulation_hashes"
QUIRE_THREADS_OPERATIONS=2000000 run "$root/build/tsan/tests/threads_test"
# A test that was skipped, or does not exist any more, is no figure.
for figure in arguments builds canaries collisions faults liveness 'model, part 4 of 4' partitions \
  'protocol failed_copy' 'protocol lookup_pin_evict' 'protocol plan_holds' simulation \
  'strict tenants' threads tickets; do
  grep -aq "^ *scorecard: $figure" "$log" || { echo "scorecard: no line for $figure" >&2; failed=1; }
done
LC_ALL=C sed -n 's/^ *scorecard: //p' "$log" | sort
LC_ALL=C sed -n 's/^.*scorecard: model, .* operations \([0-9]*\), seeds \([0-9]*\), .*/\1 \2/p' "$log" \
  | awk '{ n += $1; seeds += $2 }
         END { printf "model, together: %d operations, each audited, of %d seeds\n", n, seeds }'
if ((failed != 0)); then
  echo "scorecard: something failed; see above" >&2
  exit 1
fi
