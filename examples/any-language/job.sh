#!/bin/sh
# A job that knows nothing of stepout: it reads a variable, writes files, and ends with an exit code.
set -eu
rows=$(printf '%s' "$STEPOUT_INPUT" | sed -n 's/.*"rows": *\([0-9]*\).*/\1/p')
[ -n "$rows" ] || { echo "the input has no rows" >&2; exit 64; }

mkdir -p out
awk -v rows="$rows" 'BEGIN { print "number,square"; for (n = 0; n < rows; n++) print n "," n * n }' > out/squares.csv
printf '{"rows": %s}' "$rows" > "$STEPOUT_RESULT"
