#!/bin/sh
# Installs packages on Debian and its derivatives. Elsewhere it names what is missing.
set -eu

if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    apt-get update -q
    apt-get install -y -q --no-install-recommends "$@"
else
    echo "this needs: $*; install them and run it again" >&2
    exit 1
fi
