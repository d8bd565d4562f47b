#!/bin/sh
# Checks what cargo does not: shell scripts parse, and the systemd unit is valid where systemd is there to say so.
set -eu
for script in scripts/*.sh benches/*.sh .ci/run; do
    sh -n "$script"
done
if command -v systemd-analyze >/dev/null 2>&1; then
    # The binary need not be installed for its unit to be checked.
    directory=$(mktemp -d)
    trap 'rm -r "$directory"' EXIT
    unit=$directory/fullon_master_api.service
    sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' fullon_master_api.service > "$unit"
    systemd-analyze verify --recursive-errors=yes "$unit"
else
    echo 'lint: SKIPPED systemd-analyze verify: systemd is not installed here' >&2
fi
