#!/usr/bin/env bash
# Runs every fuzz target for so many seconds each (600 unless said), one after the other, and prints what each did. What it finds on
# the way is kept in the folder that WORK names, so that the next run goes on from there; findings are in artifacts/ there.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-600}
work=${WORK:-$PWD/target/work}
cargo +nightly fuzz build -s none
status=0
for target in $(cargo fuzz list); do
    mkdir -p "$work/$target" "$work/artifacts"
    log="$work/$target.log"
    "target/x86_64-unknown-linux-gnu/release/$target" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=3000 -max_len=16384 \
        -print_final_stats=1 -artifact_prefix="$work/artifacts/$target-" "$work/$target" "corpus/$target" >"$log" 2>&1 || status=1
    printf '%s: %s\n' "$target" "$(grep -E 'DONE|ERROR|SUMMARY' "$log" | tail -n 1 | tr '\t' ' ')"
done
exit $status
