#!/bin/sh
# Installs what the folders' package-lock.json name to target/tools/FOLDER, with its own Node.js; what is there already is left
# alone. No package runs anything of its own while it is installed.
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
