#!/bin/sh
# Fuzzes each parser of external input, or only TARGET, with RUNS inputs. New inputs go to
# fuzz/target, inputs that break a parser to fuzz/artifacts. The inputs in corpus/NAME.tgz also run in
# `make test`. To add one, unpack the archive, and pack it again with
# `tar --sort=name --mtime=@0 --owner=0 --group=0 --mode=644 -czf NAME.tgz -C DIRECTORY .`
set -eu
cd "$(dirname "$0")/../fuzz"
cargo=${CARGO:-cargo}
runs=${RUNS:-1000000}
if ! "$cargo" fuzz --version >/dev/null 2>&1; then
    echo "fuzz: cargo-fuzz is missing: $cargo install --locked cargo-fuzz" >&2
    exit 1
fi
# Instrumentation is a nightly feature. This enables it in a stable compiler.
export RUSTC_BOOTSTRAP=1
# The targets leave their logs there when the fuzzer exits.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -r "$TMPDIR"' EXIT
for target in ${TARGET:-$(ls corpus | sed 's/\.tgz$//')}; do
    found=target/found/$target
    kept=target/corpus/$target
    mkdir -p "$found" "$kept"
    tar -xzf "corpus/$target.tgz" -C "$kept"
    echo "fuzz: $target"
    # No sanitizer: this crate has no unsafe code.
    "$cargo" fuzz run --sanitizer none "$target" "$found" "$kept" -- -runs="$runs" -timeout=10 -print_final_stats=1
done
