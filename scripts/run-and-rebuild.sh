#!/bin/sh
# Runs the daemon in the foreground, and replaces it whenever a source changes and the build succeeds. A build that
# fails leaves the running daemon as it is. Ctrl-C stops both.
set -u
cargo=${CARGO:-cargo}
stamp=$(mktemp)
daemon=

finish() {
    trap - INT TERM EXIT
    [ -n "$daemon" ] && kill -TERM "$daemon" 2>/dev/null && wait "$daemon"
    rm -f "$stamp"
    exit 0
}
trap finish INT TERM EXIT

changed() {
    [ -n "$(find src Cargo.toml Cargo.lock .env -newer "$stamp" -type f 2>/dev/null | head -n 1)" ]
}

while :; do
    touch "$stamp"
    if $cargo build --locked --bin fullon; then
        if [ -n "$daemon" ]; then
            kill -TERM "$daemon" 2>/dev/null
            wait "$daemon"
        fi
        ./target/debug/fullon run &
        daemon=$!
    else
        echo 'run: the build failed; waiting for the next change' >&2
    fi
    until changed; do
        sleep 0.5
        if [ -n "$daemon" ] && ! kill -0 "$daemon" 2>/dev/null; then
            wait "$daemon"
            echo "run: the daemon ended with exit code $?; waiting for the next change" >&2
            daemon=
        fi
    done
done
