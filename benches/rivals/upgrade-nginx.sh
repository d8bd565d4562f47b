#!/bin/sh
# Upgrades nginx to another binary: starts a new master beside the old one, which then lets its
# workers finish and exits. Run in the directory of the PID file.
set -eu

old=$(cat nginx.pid)
kill -USR2 "$old"
until [ -s nginx.pid.oldbin ] && [ -s nginx.pid ]; do sleep 0.01; done
kill -WINCH "$old"
kill -QUIT "$old"
while [ -e nginx.pid.oldbin ]; do sleep 0.01; done
