#!/usr/bin/env bash
# A property-based client against a real server: every answer must be one that /openapi.json describes. About two
# minutes. Needs python3 with venv. WORKER_ORCD_EXE names an executable that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."

exe=${WORKER_ORCD_EXE:-}
if [ -z "$exe" ]; then
    cargo build
    exe=${CARGO_TARGET_DIR:-target}/debug/worker-orcd
fi
folder=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null && wait "$server" || true; fi
    rm -rf "$folder"
}
trap finish EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check schemathesis==4.32.5

"$exe" serve --model tests/golden/llama31-f32.gguf --device cpu --port 0 2>"$folder/log" &
server=$!
url=
for _ in $(seq 600); do
    url=$(grep '"event":"ready"' "$folder/log" | grep -o 'http://[0-9.:]*' | head -n 1) || true
    if [ -n "$url" ]; then break; fi
    kill -0 "$server" || { cat "$folder/log"; exit 1; }
    sleep 0.1
done
[ -n "$url" ]

# Not checked: whether all that the schema allows is taken, since the context and the vocabulary bound it too, and
# whether a key is asked for, since this server has none.
(cd "$folder" && NO_PROXY='*' no_proxy='*' venv/bin/schemathesis run "$url/openapi.json" \
    --checks all --exclude-checks positive_data_acceptance,ignored_auth \
    --phases examples,coverage,fuzzing --max-examples 50 --continue-on-failure --no-shrink \
    --request-timeout 20 --suppress-health-check all --generation-deterministic "$@")

# It has survived, and answers.
python3 -c 'import sys, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(sys.argv[1] + "/ready")' "$url"
