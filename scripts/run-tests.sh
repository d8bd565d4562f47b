#!/bin/sh
# Runs a command that runs tests, then prints how many tests were skipped, and why.
set -u
SKIPPED_TESTS=$(mktemp)
export SKIPPED_TESTS
trap 'rm -f "$SKIPPED_TESTS"' EXIT
"$@"
code=$?
count=$(wc -l <"$SKIPPED_TESTS")
echo
if [ "$count" -eq 0 ]; then
    echo "No test was skipped."
else
    echo "Skipped: $count"
    sort "$SKIPPED_TESTS" | sed 's/^/  /'
fi
exit "$code"
