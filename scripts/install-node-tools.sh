#!/bin/sh
# Installs the packages of each FOLDER's package-lock.json to target/tools/FOLDER, with its own
# Node.js. Skips a folder whose packages are up to date. Packages cannot run install scripts.
set -eu

cd "$(dirname "$0")/.."
sh scripts/install-python-tools.sh nodejs
tools=$(realpath "${CARGO_TARGET_DIR:-target}/tools")
PATH=$tools/bin:$PATH
for folder in "$@"; do
    to=$tools/$(basename "$folder")
    if cmp -s "$folder/package-lock.json" "$to/installed.json"; then
        continue
    fi
    mkdir -p "$to"
    cp "$folder/package.json" "$folder/package-lock.json" "$to"
    (cd "$to" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    cp "$folder/package-lock.json" "$to/installed.json"
done
