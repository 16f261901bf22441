#!/usr/bin/env bash
# Runs everything that needs no GPU under AddressSanitizer and LeakSanitizer, the server under load over HTTP included,
# and writes reports/memory-host.md. Fails where a test fails or a sanitizer reports anything, from a child process too.
#
# Needs rustup's stable on x86-64 Linux, a C linker and curl. The sanitizers come with rustc, which lets its stable
# releases use them when told so by RUSTC_BOOTSTRAP; the standard library is not instrumented, its allocations are.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
target=x86_64-unknown-linux-gnu
report=reports/memory-host.md
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS=-Zsanitizer=address
# Code of its own beside the usual one; without what only helps to compile it once more.
export CARGO_TARGET_DIR=${MEMORY_CHECK_TARGET:-$root/target/memory-check} CARGO_INCREMENTAL=0
work=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill -KILL "$server" 2>/dev/null || true; fi; rm -rf "$work"' EXIT
# Findings become files, whoever of the many processes reports one. Huge requests fail as they would without a sanitizer.
mkdir "$work/found" "$work/paper"
# An instrumented library finds no sanitizer in an executable of Rust's, so the paper GPU is a plain one.
env -u RUSTFLAGS CARGO_TARGET_DIR="$root/target" cargo build -p paper_cuda
cp target/debug/libpaper_cuda.so "$work/paper/libcuda.so.1"
export WORKER_ORCD_PAPER=$work/paper
options=detect_leaks=1:detect_stack_use_after_return=1:allocator_may_return_null=1:exitcode=86
export ASAN_OPTIONS=$options:log_path=$work/found/asan
export LSAN_OPTIONS=print_suppressions=0
symbolizer=$(command -v llvm-symbolizer || ls /usr/lib/llvm-*/bin/llvm-symbolizer 2>/dev/null | tail -n 1 || true)
if [ -n "$symbolizer" ]; then export ASAN_SYMBOLIZER_PATH=$symbolizer; fi

# A sanitizer that finds nothing here would find nothing there.
sanitizers_work() {
    local fault
    cat >"$work/faulty.rs" <<'RUST'
use std::hint::black_box;

#[inline(never)]
fn last(values: &[u8], i: usize) -> u8 {
    // SAFETY: none, this is the fault.
    unsafe { *values.as_ptr().add(black_box(i)) }
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("heap-buffer-overflow") => println!("{}", last(&black_box(vec![7; 100]), 100)),
        Some("detected memory leaks") => _ = black_box(Box::leak(black_box(Box::new([7; 100]))).as_ptr() as usize),
        _ => {}
    }
}
RUST
    rustc --edition 2024 --target $target $RUSTFLAGS -o "$work/faulty" "$work/faulty.rs"
    ASAN_OPTIONS=$options "$work/faulty" none
    for fault in "heap-buffer-overflow" "detected memory leaks"; do
        if ASAN_OPTIONS=$options "$work/faulty" "$fault" >"$work/fault" 2>&1 || ! grep -q "$fault" "$work/fault"; then
            echo "the sanitizer does not find this here: $fault"
            cat "$work/fault"
            exit 1
        fi
    done
}

# Lines of PACKAGE-TARGET, its folder and its executable.
build() {
    cargo test --workspace --exclude cuda_builder --exclude paper_cuda --lib --tests --target $target --no-run --message-format=json |
        grep '"test":true},"features"' |
        sed -n 's/.*"manifest_path":"\([^"]*\)\/Cargo.toml".*"name":"\([^"]*\)","src_path".*"executable":"\([^"]*\)".*/\1 \2 \3/p' |
        while read -r folder name executable; do
            package=${folder#"$root"} package=${package##*/}
            echo "${package:-worker-orcd}-$name $folder $executable"
        done
}

# Runs an executable in its package's folder, with arguments, and adds a line to the report's table.
failures=0
run() {
    local name=$1 folder=$2 executable=$3 start=$SECONDS passed failed ignored verdict=
    shift 3
    echo "== $name $*"
    (cd "$folder" && "$executable" "$@" </dev/null) >"$work/output" 2>&1 || verdict=" **failed**"
    if [ -n "$verdict" ]; then failures=$((failures + 1)) && cat "$work/output"; fi
    read -r passed failed ignored < <(
        sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored.*/\1 \2 \3/p' "$work/output"
        echo 0 0 0
    )
    echo "$passed passed, $failed failed, $ignored ignored, $((SECONDS - start)) s"
    echo "| \`$name${*:+ $*}\` | $passed | $failed | $ignored | $((SECONDS - start))$verdict |" >>"$work/table"
}

# A server under load: jobs that end, jobs whose client goes away, cancelled ones, requests that are refused. It must end
# by itself after SIGTERM, since leaks are looked for then.
load() {
    local log=$work/server.log url= code=0 start=$SECONDS counts
    "$CARGO_TARGET_DIR/$target/debug/worker-orcd" serve --device cpu --numerics "$1" --port 0 --max-batch 4 \
        --model tests/golden/llama-q4_1.gguf 2>"$log" &
    server=$!
    for _ in $(seq 600); do
        url=$(sed -n '/"ready"/s/.*\(http:\/\/[0-9.:]*\).*/\1/p' "$log" | head -n 1)
        if [ -n "$url" ] || ! kill -0 $server 2>/dev/null; then break; fi
        sleep 0.1
    done
    # A client's number tells what it does: every fourth leaves early, every fifth is cancelled, every seventh is wrong.
    client() {
        local body patience=60
        body="{\"job_id\": \"job-$2\", \"prompt\": \"Once upon a time $2\", \"max_tokens\": 48, \"seed\": $2,
            \"temperature\": 1.0, \"top_p\": 0.9, \"repetition_penalty\": 1.1, \"stop\": [\"zq$2\"]}"
        if (($2 % 4 == 0)); then patience=0.05; fi
        if (($2 % 7 == 0)); then body=${body/48/\"many\"}; fi
        if (($2 % 5 == 0)); then
            (sleep 0.05 && curl -s -o /dev/null -d "{\"job_id\": \"job-$2\"}" "$1/cancel") &
        fi
        curl -s -o /dev/null -w '%{http_code}\n' --max-time $patience -H 'Content-Type: application/json' \
            -d "$body" "$1/execute" || echo "left"
        curl -s -o /dev/null "$1/health"
        wait
    }
    export -f client
    seq 400 | xargs -P 12 -I{} bash -c "client $url {}" >"$work/codes" || true
    kill -TERM $server
    wait $server || code=$?
    server=
    counts=$(grep -c '^200' "$work/codes" || true)
    echo "$counts answered 200, $(grep -c '^400' "$work/codes" || true) answered 400," \
        "$(grep -c left "$work/codes" || true) clients left early; exit code $code" | tee "$work/load"
    echo "| server under load, \`$1\`: $(cat "$work/load") | | | | $((SECONDS - start)) |" >>"$work/table"
    if [ $code -ne 0 ] || [ "$counts" -lt 200 ]; then failures=$((failures + 1)) && tail -n 20 "$log"; fi
}

sanitizers_work
start=$SECONDS
build >"$work/executables"
built=$((SECONDS - start))
while read -r name folder executable <&3; do
    case "$name" in
    # What tests the source tree runs no code of the worker.
    worker-orcd-api | worker-orcd-compile_fail | worker-orcd-ptx) ;;
    # A model of 135 million parameters adds minutes and no code.
    worker-orcd-golden) run "$name" "$folder" "$executable" --skip smollm2 ;;
    *) run "$name" "$folder" "$executable" ;;
    esac
done 3<"$work/executables"
load f32
load tc

found=$(find "$work/found" -type f | sort)
{
    echo "# Memory on the host: AddressSanitizer and LeakSanitizer"
    echo
    echo "\`scripts/memory-check.sh\` at commit $(git describe --always --dirty --exclude='*'), $(date -u +%F), $(rustc -V)," \
        "$(nproc) cores. Compiled in $built s, run in $((SECONDS - start - built)) s. Tests that need a GPU are ignored."
    echo
    echo "| executable and arguments | passed | failed | ignored | seconds |"
    echo "|---|---|---|---|---|"
    cat "$work/table"
    echo
    if [ -z "$found" ]; then
        echo "**No finding**: no access outside of an allocation or after its end, no leak. Before, the same flags found an" \
            "overflow and a leak that were made for them."
    else
        echo "**$(echo "$found" | wc -l) findings**:"
        for file in $found; do printf '\n```\n%s\n```\n' "$(head -n 40 "$file")"; done
    fi
} >$report
cat $report
if [ -n "$found" ] || [ $failures -ne 0 ]; then exit 1; fi
