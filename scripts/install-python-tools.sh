#!/bin/sh
# Installs each tool NAME to target/tools, from the Python packages with the versions in
# scripts/NAME.txt. Skips a tool that is up to date.
set -eu

cd "$(dirname "$0")/.."
tools=${CARGO_TARGET_DIR:-target}/tools
for name in "$@"; do
    wanted=scripts/$name.txt
    if "$tools/bin/python" -c '' 2>/dev/null && cmp -s "$wanted" "$tools/$name.txt"; then
        continue
    fi
    python3 -c 'import ensurepip' 2>/dev/null || sh scripts/install-packages.sh python3-venv
    "$tools/bin/python" -c '' 2>/dev/null || python3 -m venv --clear "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --requirement "$wanted"
    cp "$wanted" "$tools/$name.txt"
done
