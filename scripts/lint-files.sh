#!/bin/sh
# Checks the syntax of the shell scripts, and the systemd files if systemd is installed.
set -eu
for script in scripts/*.sh benches/*.sh clients/*/*.sh tests/it/support/*.sh .ci/run; do
    sh -n "$script"
done

if ! command -v systemd-analyze >/dev/null 2>&1; then
    echo 'lint: SKIPPED systemd-analyze: systemd is not installed here' >&2
    [ -z "${CI:-}" ]
    exit
fi
root=$(mktemp -d)
trap 'rm -r "$root"' EXIT
mkdir "$root/units" "$root/etc"
cp systemd/*.socket "$root/units"
# /bin/true stands in for the program, which need not be installed.
sed 's|^\(Exec[A-Za-z]*\)=/usr/local/bin/fullon|\1=/bin/true|' fullon_master_api.service > "$root/units/fullon_master_api.service"
for unit in "$root"/units/*; do
    # Without the flag, unknown settings are accepted.
    systemd-analyze verify --recursive-errors=yes "$unit"
done
# 20 is an exposure of 2.0 out of 10. The rest is the network, and what any program needs to run.
if ! exposure=$(systemd-analyze security --offline=true --threshold=20 --no-pager "$root/units/fullon_master_api.service"); then
    echo "$exposure" >&2
    exit 1
fi
SYSTEMD_LOG_LEVEL=warning systemd-sysusers --dry-run --root="$root" - <systemd/sysusers.d/fullon_master_api.conf >/dev/null
cp -r systemd/tmpfiles.d "$root/etc"
systemd-tmpfiles --create --root="$root"
