#!/usr/bin/env bash
# OpenAI's own clients, for Python and for Node, against a real server with a real model: what they are given has to add up.
# Less than a minute. Needs python3 with venv, and node with npm, which are installed if this is root. WORKER_ORCD_EXE names
# an executable that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v node >/dev/null && command -v npm >/dev/null || {
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nodejs npm
}
exe=${WORKER_ORCD_EXE:-}
if [ -z "$exe" ]; then
    cargo build --release
    exe=${CARGO_TARGET_DIR:-target}/release/worker-orcd
fi
folder=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null && wait "$server" || true; fi
    rm -rf "$folder"
}
trap finish EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openai==3.57.0
npm install --silent --no-audit --no-fund --prefix "$folder" openai@6.49.0
cp scripts/clients/node.mjs "$folder"

(umask 077 && echo a-key-for-this-check-only-0123456789 >"$folder/keys")
# Two sequences run and eight wait: sixteen choices are too many.
"$exe" serve --model smollm2 --device cpu --port 0 --api-key-file "$folder/keys" --max-batch 2 --queue-depth 8 \
    2>"$folder/log" &
server=$!
url=
for _ in $(seq 600); do
    url=$(grep '"event":"ready"' "$folder/log" | grep -o 'http://[0-9.:]*' | head -n 1) || true
    if [ -n "$url" ]; then break; fi
    kill -0 "$server" || { cat "$folder/log"; exit 1; }
    sleep 0.1
done
[ -n "$url" ]

export NO_PROXY='*' no_proxy='*' OPENAI_API_KEY
OPENAI_API_KEY=$(cat "$folder/keys")
"$folder/venv/bin/python" scripts/clients/python.py "$url"
node "$folder/node.mjs" "$url"
