#!/usr/bin/env bash
# soak.sh MINUTES [FIRST]: the tests' long forms, for `./dev soak`, which builds them. First the
# scorecard. Then rounds from FIRST (1) on, each with seeds that neither the tests nor another round
# have, until the time is up; a round that has begun ends. The fuzzers run beside them. A failure ends
# the soak, and its log says how to play it again.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
minutes="${1:?soak.sh MINUTES [FIRST]}"
first="${2:-1}"
tests="$root/build/release/tests"
logs="$root/build/soak"
mkdir -p "$logs"

# job NAME COMMAND...: its log is NAME; what it says of itself is kept for the summary.
job() {
  local name="$1"
  shift
  if "$@" > "$logs/$name.log" 2>&1; then
    echo "soak: $name passed" >&2
  else
    tail -n 40 "$logs/$name.log" >&2
    echo "soak: $name FAILED; all of it: $logs/$name.log" >&2
    touch "$logs/failed"
  fi
}

# Waits until fewer jobs run than there are cores.
room() {
  while (($(jobs -rp | wc -l) >= $(nproc))); do wait -n || true; done
}

stop_if_failed() {
  [[ ! -e "$logs/failed" ]] || { wait; exit 1; }
}

rm -f "$logs/failed" "$logs"/*.log
start=$SECONDS
end=$((start + minutes * 60))

"$root/tests/scorecard.sh"

trap 'jobs -rp | xargs -r kill 2> /dev/null || true' EXIT
# A target's share of half the time.
room; job fuzz "$root/dev" fuzz all $((minutes * 60 / 18 + 1)) &

round=0
while ((SECONDS < end || round == 0)); do
  seed=$((first + round))
  room; job "model-$seed" "$tests/model_test" --seconds 30 --seed $((seed * 1000000)) &
  room; job "simulation-$seed" "$tests/simulation/quire_simulation" $((seed * 4000)) 4000 &
  room; job "liveness-$seed" env QUIRE_LIVENESS_SEEDS=50 QUIRE_LIVENESS_FIRST=$((seed * 50)) \
    "$tests/liveness_test" &
  room; job "strict-$seed" env QUIRE_STRICT_SEED=$((seed * 10000 + 1)) "$tests/strict_test" &
  room; job "collision-$seed" env QUIRE_COLLISION_SEED=$((seed + 1)) \
    "$tests/collisions/collision_test" &
  room; job "scrub-$seed" env QUIRE_SCRUB_SEED=$((seed + 1)) "$tests/scrub_canary_test" &
  stop_if_failed
  round=$((round + 1))
done
wait
stop_if_failed

# sum WORD: of the numbers that follow it in the model's last lines.
sum() {
  sed -n "s/^scorecard: model.* $1 \([0-9]*\),.*/\1/p" "$logs"/model-*.log | awk '{ n += $1 } END { print n + 0 }'
}
echo "soak: $round rounds from seed $first in $((SECONDS - start)) s, nothing failed"
echo "soak: model $(sum operations) operations" \
  "of $(sum seeds) seeds; simulation $((round * 4000)) seeds of 5000 steps;" \
  "$((round * 10000)) trace pairs; $((round * 10)) M lookups with keys of 8 bits;" \
  "fuzzers $(awk '/number_of_executed_units/ { n += $2 } END { print n + 0 }' "$logs/fuzz.log") executions"
