#!/usr/bin/env bash
# Collects stripped test, bench and server executables and what they read into dist/worker-orcd-bundle/ and a
# .tar.xz beside it: unpacked on a machine with a GPU and no Rust, its run.sh runs the whole suite, and
# scripts/generate_gate1_report.sh --bundle . the tests behind Gate 1.
set -euo pipefail
cd "$(dirname "$0")/.."
bundle=dist/worker-orcd-bundle
rm -rf "$bundle"
mkdir -p "$bundle/tests" "$bundle/benches" "$bundle/paper" "$bundle/scripts"

# Copies what cargo's messages name to $bundle/$1 as PACKAGE-KIND-TARGET: executables of the test harness, of the
# kinds that the pattern $2 matches. What tests the source tree stays at home: cuda_builder, the paper GPU's own test, and
# of tests/ api, compile_fail and ptx.
collect() {
    local package kind target executable
    grep '"test":true},"features"' |
        sed -n 's/.*"manifest_path":"\([^"]*\)\/Cargo.toml".*"kind":\["\([^"]*\)"\].*"name":"\([^"]*\)","src_path".*"executable":"\([^"]*\)".*/\1 \2 \3 \4/p' |
        while read -r package kind target executable; do
            package=${package#"$PWD"} package=${package##*/} package=${package:-worker-orcd}
            case "$package-$kind-$target" in
            cuda_builder-* | paper_cuda-* | worker-orcd-test-api | worker-orcd-test-compile_fail | worker-orcd-test-ptx) ;;
            *-$2-*) strip -o "$bundle/$1/$package-$kind-$target" "$executable" ;;
            esac
        done
}

cargo test --release --workspace --no-run --message-format=json | collect tests '*'
# The trials of a failing driver need one that can fail, in the test and in the executable that it starts.
cargo test --release --all-features --test integration --no-run --message-format=json | collect tests test
strip -o "$bundle/worker-orcd-faults" "${CARGO_TARGET_DIR:-target}/release/worker-orcd"
cargo bench --workspace --no-run --message-format=json | collect benches bench
cargo build --release
strip -o "$bundle/worker-orcd" "${CARGO_TARGET_DIR:-target}/release/worker-orcd"

# Built with the tests, beside them.
strip -o "$bundle/paper/libcuda.so.1" "${CARGO_TARGET_DIR:-target}/release/deps/libpaper_cuda.so"

cp -r tests/golden "$bundle/golden"
git describe --always --dirty >"$bundle/COMMIT"
cp scripts/bundle-run.sh "$bundle/run.sh"
cp scripts/generate_gate1_report.sh scripts/gate1.py "$bundle/scripts"
cp tests/gate1.toml "$bundle"
tar -C dist -cJf dist/worker-orcd-bundle.tar.xz worker-orcd-bundle
du -sh "$bundle" dist/worker-orcd-bundle.tar.xz
