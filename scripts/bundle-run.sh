#!/usr/bin/env bash
# Runs what lies beside it, with no Rust on the machine, and sums up:
#
#   ./run.sh                     every test
#   ./run.sh NAME                the tests of executables whose name contains NAME
#   ./run.sh NAME -- ARGUMENTS   and passes them on, such as a filter
#   ./run.sh --bench [NAME [-- ARGUMENTS]]
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# Where tests find their data and the paper GPU.
export WORKER_ORCD_TEST_DATA=$here/golden
export WORKER_ORCD_PAPER=$here/paper

folder=tests
if [ "${1:-}" = --bench ]; then
    folder=benches
    shift
fi
name=
if [ $# -gt 0 ] && [ "$1" != -- ]; then
    name=$1
    shift
fi
[ "${1:-}" = -- ] && shift
[ "$folder" = benches ] && set -- --bench "$@"

echo "worker-orcd $(cat "$here/COMMIT")"
ran=0 passed=0 failed=0 ignored=0 broken=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for executable in "$here/$folder"/*"$name"*; do
    [ -x "$executable" ] || continue
    echo "== ${executable##*/}"
    ran=$((ran + 1))
    case $executable in
    # Its driver's calls can be made to fail.
    */worker-orcd-test-integration) export WORKER_ORCD_EXE=$here/worker-orcd-faults ;;
    *) export WORKER_ORCD_EXE=$here/worker-orcd ;;
    esac
    "$executable" "$@" </dev/null 2>&1 | tee "$log"
    [ "${PIPESTATUS[0]}" -eq 0 ] || broken+=("${executable##*/}")
    # Each test executable ends with: test result: ok. 4 passed; 0 failed; 1 ignored; ...
    while read -r p f i; do
        passed=$((passed + p)) failed=$((failed + f)) ignored=$((ignored + i))
    done < <(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored.*/\1 \2 \3/p' "$log")
done

if [ "$ran" -eq 0 ]; then
    echo "no executable here is named like '$name'"
    exit 1
fi
echo "== $ran executables: $passed passed, $failed failed, $ignored ignored"
if [ "${#broken[@]}" -gt 0 ]; then
    printf 'failed: %s\n' "${broken[@]}"
    exit 1
fi
