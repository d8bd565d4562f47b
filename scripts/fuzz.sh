#!/bin/sh
# Fuzzes each parser of what comes from outside, or TARGET alone, with RUNS inputs. What is new to the fuzzer goes to
# fuzz/target, and an input that breaks a parser to fuzz/artifacts.
set -eu
cd "$(dirname "$0")/../fuzz"
cargo=${CARGO:-cargo}
runs=${RUNS:-1000000}
if ! "$cargo" fuzz --version >/dev/null 2>&1; then
    echo "fuzz: cargo-fuzz is missing: $cargo install --locked cargo-fuzz" >&2
    exit 1
fi
# Instrumentation is a nightly feature of the compiler; this makes a stable one do it.
export RUSTC_BOOTSTRAP=1
# The logs of the targets are left there when the fuzzer exits.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -r "$TMPDIR"' EXIT
for target in ${TARGET:-$(ls corpus)}; do
    found=target/found/$target
    mkdir -p "$found"
    echo "fuzz: $target"
    # No sanitizer: there is no unsafe code of ours for it to look at.
    "$cargo" fuzz run --sanitizer none "$target" "$found" "corpus/$target" -- -runs="$runs" -timeout=10 -print_final_stats=1
done
