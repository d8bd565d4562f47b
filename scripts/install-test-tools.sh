#!/bin/sh
# What the tests need beside Rust and a C compiler: curl, Python, bash, the tools of namespaces, systemd, and a browser that
# can be driven.
# Installs it on Debian and its kin, and says elsewhere what is missing.
set -eu

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

[ -z "$missing" ] && exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    apt-get update -q
    # shellcheck disable=SC2086 # a list of packages
    apt-get install -y -q --no-install-recommends $missing
else
    echo "the tests need:$missing; install them and run make test again" >&2
    exit 1
fi
