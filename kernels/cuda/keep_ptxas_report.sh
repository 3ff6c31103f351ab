#!/bin/sh
# Runs a compiler's command and keeps what ptxas said of registers and spills beside the object, as
# OBJECT.ptxas, for cuda_registers_test. Everything else is passed on.
object=
previous=
for argument; do
  if [ "$previous" = -o ]; then object="$argument"; fi
  previous="$argument"
done
if [ -z "$object" ]; then exec "$@"; fi
"$@" 2> "$object.stderr"
status=$?
grep -E "^ptxas info|bytes stack frame" "$object.stderr" > "$object.ptxas"
grep -vE "^ptxas info|bytes stack frame|^$" "$object.stderr" >&2
rm -f "$object.stderr"
exit "$status"
