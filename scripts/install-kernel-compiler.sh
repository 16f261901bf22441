#!/usr/bin/env bash
# Installs what compiles the kernels to PTX, on Debian and Ubuntu: a rustc with its library source, and LLVM's tools
# of the same version. They stand beside rustup and change nothing of it. Elsewhere, rustup has both:
#   rustup toolchain install nightly-2026-05-20 --component rust-src,llvm-tools
set -euo pipefail

sudo=()
[ "$(id -u)" -eq 0 ] || sudo=(sudo)
"${sudo[@]}" apt-get update
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends rustc-web rust-web-src llvm-22
