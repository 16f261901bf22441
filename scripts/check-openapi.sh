#!/usr/bin/env bash
# A property-based client against a real server: every answer must be one that /openapi.json describes. About a minute.
# Needs python3 with venv. WORKER_ORCD_EXE names an executable that is built already, OPENAPI_DOCUMENT another document
# to hold the answers against.
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

(umask 077 && echo a-key-for-this-check-only-0123456789 >"$folder/keys")
"$exe" serve --model tests/golden/llama31-f32.gguf --device cpu --port 0 --api-key-file "$folder/keys" \
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

export NO_PROXY='*' no_proxy='*'
get() { python3 -c 'import sys, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1]).read())' "$url$1"; }
get /openapi.json | cmp - server/src/openapi.json

# Not checked: whether all that the schema allows is taken, since the context, the vocabulary and the tokens of a stop
# string bound it too; and whether a wrong key is refused beside a right one in the other header, which it is not.
schema=$PWD/${OPENAPI_DOCUMENT:-server/src/openapi.json}
(cd "$folder" && venv/bin/schemathesis run "$schema" --url "$url" --header "X-API-Key: $(cat keys)" \
    --checks all --exclude-checks positive_data_acceptance,ignored_auth --phases examples,coverage,fuzzing --max-examples 500 \
    --continue-on-failure --no-shrink --request-timeout 20 --suppress-health-check all --generation-deterministic)

# It has survived, and answers.
get /ready
