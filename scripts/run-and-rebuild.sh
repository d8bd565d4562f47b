#!/bin/sh
# Runs the daemon in the foreground. When a source changes, builds the program and starts the daemon
# again. After a failed build, the running daemon continues. Ctrl-C stops both.
set -u
cargo=${CARGO:-cargo}
program=${CARGO_TARGET_DIR:-target}/debug/fullon
seen=
daemon=

stop_daemon() {
    [ -n "$daemon" ] || return 0
    kill -TERM "$daemon" 2>/dev/null
    wait "$daemon"
    daemon=
}

# The terminal also sends Ctrl-C to the daemon. A second signal would end it without draining.
interrupted() {
    trap - INT TERM EXIT
    [ -n "$daemon" ] && wait "$daemon"
    exit 130
}
trap interrupted INT
trap 'trap - INT TERM EXIT; stop_daemon; exit 143' TERM
trap 'trap - INT TERM EXIT; stop_daemon' EXIT

# Names, sizes and times of all sources. Changes when one is edited, added or removed.
sources() {
    find src Cargo.toml Cargo.lock .env -type f -exec stat -c '%n %s %Y' {} + 2>/dev/null | sort
}

while :; do
    seen=$(sources)
    if $cargo build --locked --bin fullon; then
        stop_daemon
        "$program" run &
        daemon=$!
    else
        echo 'run: the build failed; waiting for the next change of a source' >&2
    fi
    while [ "$(sources)" = "$seen" ]; do
        sleep 0.5
        if [ -n "$daemon" ] && ! kill -0 "$daemon" 2>/dev/null; then
            wait "$daemon"
            echo "run: the daemon exited with code $?; waiting for the next change of a source" >&2
            daemon=
        fi
    done
done
