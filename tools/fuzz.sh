#!/bin/sh
# fuzz.sh BUILD SECONDS: run every libFuzzer target on a copy of its corpus.
set -eu
build=$1
seconds=$2
for target in "$build"/tests/fuzz/fuzz_*; do
    [ -x "$target" ] && [ -f "$target" ] || continue
    name=$(basename "$target" | sed 's/^fuzz_//')
    found="$build/corpus/$name"
    mkdir -p "$found"
    echo "fuzz: $name for $seconds s"
    "$target" -max_total_time="$seconds" -print_final_stats=1 -verbosity=0 \
        "$found" "tests/fuzz/corpus/$name"
done
