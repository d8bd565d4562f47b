#!/bin/sh
# What the tests need beside Rust and a C compiler: curl, Python, bash, the tools of namespaces, systemd, and a browser that
# can be driven, a clock that can be put forward, and Prometheus; and schemathesis, which tries out what the OpenAPI documents
# promise.
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
need chromium chromium
need chromedriver chromium-driver
need promtool prometheus
# A library has no command.
set -- /usr/lib/*/faketime/libfaketimeMT.so.1
[ -e "$1" ] || missing="$missing libfaketime"

# shellcheck disable=SC2086 # a list of packages
[ -z "$missing" ] || sh scripts/install-packages.sh $missing
sh scripts/install-python-tools.sh schemathesis
