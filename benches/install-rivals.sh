#!/bin/sh
# Installs the programs that `cargo bench --bench compare` compares fullon with. Installed programs
# are left alone. As root, Debian packages are installed in the system, where they enable services.
# The rest goes to target/rivals. A program that cannot be installed is named, and the benchmark skips it.
set -eu

cd "$(dirname "$0")/.."
rivals=target/rivals
mkdir -p "$rivals"
# Not every PATH has the directories of daemons.
PATH="$PATH:/usr/sbin:/sbin"

missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need wrk wrk
need nginx nginx-light
need supervisord supervisor
need caddy caddy
need python3 python3-venv
need npm npm

if [ -n "$missing" ]; then
    if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
        apt-get update -q
        # shellcheck disable=SC2086 # a list of packages
        apt-get install -y -q --no-install-recommends $missing
    else
        echo "the comparison needs:$missing; install them to have their columns in the table" >&2
    fi
fi

if ! "$rivals/venv/bin/python" -c 'import fastapi, uvicorn' 2>/dev/null; then
    if ! { python3 -m venv --clear "$rivals/venv" &&
        "$rivals/venv/bin/python" -m pip install --quiet fastapi uvicorn; }; then
        echo 'fastapi and uvicorn cannot be installed; python3 with venv and pip would do it' >&2
    fi
fi

if [ ! -x "$rivals/node_modules/.bin/pm2" ]; then
    npm install --prefix "$rivals" --no-audit --no-fund --silent pm2 ||
        echo 'pm2 cannot be installed; npm would do it' >&2
fi
