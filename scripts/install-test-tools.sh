#!/bin/sh
# What the tests need beside Rust and a C compiler: curl, Python, bash, the tools of namespaces, systemd, and a browser that
# can be driven, a clock that can be put forward, and Prometheus; schemathesis, which tries out what the OpenAPI documents promise; and
# the generators of clients; the accessibility rules of axe.
# Installs it on Debian and its kin, and says elsewhere what is missing.
set -eu

cd "$(dirname "$0")/.."
missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need curl curl
need bash bash
need unshare util-linux
need nsenter util-linux
need setpriv util-linux
need ip iproute2
need systemd-analyze systemd
need python3 python3-minimal
need openssl openssl
need redis-server redis-server
need redis-cli redis-tools
need chromium chromium
need chromedriver chromium-driver
need promtool prometheus
# The programs of PostgreSQL are in no PATH. The server alone, without the one that the package would start.
set -- /usr/lib/postgresql/*/bin/initdb
if [ ! -e "$1" ]; then
    missing="$missing postgresql"
    mkdir -p /etc/postgresql-common/createcluster.d 2>/dev/null &&
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/tests.conf || true
fi
# A library has no command.
set -- /usr/lib/*/faketime/libfaketimeMT.so.1
[ -e "$1" ] || missing="$missing libfaketime"

# shellcheck disable=SC2086 # a list of packages
[ -z "$missing" ] || sh scripts/install-packages.sh $missing
sh scripts/install-python-tools.sh schemathesis openapi-generator
sh scripts/install-node-tools.sh clients/typescript tests/it/axe
