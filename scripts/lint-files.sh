#!/bin/sh
# Checks what cargo does not: shell scripts parse, and what is installed for systemd is valid where systemd is there to
# say so.
set -eu
for script in scripts/*.sh benches/*.sh tests/it/support/*.sh .ci/run; do
    sh -n "$script"
done

if ! command -v systemd-analyze >/dev/null 2>&1; then
    echo 'lint: SKIPPED systemd-analyze: systemd is not installed here' >&2
    exit 0
fi
root=$(mktemp -d)
trap 'rm -r "$root"' EXIT
mkdir "$root/units" "$root/etc"
cp systemd/fullon_master_api.socket "$root/units"
# The program need not be installed for its unit to be checked.
sed 's|^\(Exec[A-Za-z]*\)=/usr/local/bin/fullon|\1=/bin/true|' fullon_master_api.service > "$root/units/fullon_master_api.service"
for unit in "$root"/units/*; do
    # Without the flag, unknown settings pass.
    systemd-analyze verify --recursive-errors=yes "$unit"
done
# Of ten. What is left is the network, and what it takes to run on this system at all.
if ! exposure=$(systemd-analyze security --offline=true --threshold=20 --no-pager "$root/units/fullon_master_api.service"); then
    echo "$exposure" >&2
    exit 1
fi
SYSTEMD_LOG_LEVEL=warning systemd-sysusers --dry-run --root="$root" - <systemd/sysusers.d/fullon_master_api.conf >/dev/null
cp -r systemd/tmpfiles.d "$root/etc"
systemd-tmpfiles --create --root="$root"
