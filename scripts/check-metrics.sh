#!/usr/bin/env bash
# A real Prometheus scrapes a real server, and is asked what it has learnt. Less than a minute. Needs Debian's
# `prometheus`, which is installed if this is root. WORKER_ORCD_EXE names an executable that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v prometheus >/dev/null && command -v promtool >/dev/null || {
    apt-get update
    # As a program, not as a service of this machine.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends prometheus
}
exe=${WORKER_ORCD_EXE:-}
if [ -z "$exe" ]; then
    cargo build
    exe=${CARGO_TARGET_DIR:-target}/debug/worker-orcd
fi
folder=$(mktemp -d)
server= prometheus=
finish() {
    for process in $prometheus $server; do kill "$process" 2>/dev/null && wait "$process" || true; done
    rm -rf "$folder"
}
trap finish EXIT
export NO_PROXY='*' no_proxy='*'

# Prints what a command prints when it succeeds, which it must within a minute.
await() {
    for _ in $(seq 300); do
        if "$@" 2>/dev/null; then return; fi
        sleep 0.2
    done
    echo "failed for a minute: $*" >&2
    cat "$folder"/*.log >&2
    return 1
}

"$exe" serve --model tests/golden/llama31-f32.gguf --device cpu --port 0 2>"$folder/server.log" &
server=$!
address() { grep '"event":"ready"' "$folder/server.log" | grep -o 'http://[0-9.:]*' | head -n 1 | grep .; }
url=$(await address)
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port)
cat >"$folder/prometheus.yml" <<END
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: worker
    static_configs: [{targets: ["${url#http://}"]}]
END
prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/data" \
    --web.listen-address="127.0.0.1:$port" >"$folder/prometheus.log" 2>&1 &
prometheus=$!

python3 - "$url" "http://127.0.0.1:$port" <<'END'
import json, sys, time
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

worker, prometheus = sys.argv[1:]


def execute(body):
    return urlopen(Request(worker + "/execute", json.dumps(body).encode()), timeout=30).read().decode()


tokens_in = tokens_out = 0
reasons = {}
for i in range(3):
    last = execute({"job_id": str(i), "prompt": "hello", "max_tokens": 8, "temperature": 0})
    end = json.loads(last.split("event: end\ndata: ")[1])
    tokens_in, tokens_out = tokens_in + end["tokens_in"], tokens_out + end["tokens_out"]
    reasons[end["stop_reason"]] = reasons.get(end["stop_reason"], 0) + 1
assert tokens_in > 0 and tokens_out > 0
try:
    execute({})
    sys.exit("an empty request was taken")
except HTTPError as error:
    assert error.code == 400, error
health = json.load(urlopen(worker + "/health"))

expected = {
    "up": 1,
    "worker_resident": 1,
    "worker_tokens_in_total": tokens_in,
    "worker_tokens_generated_total": tokens_out,
    "sum(worker_vram_bytes)": health["vram_bytes_used"],
    'worker_vram_bytes{purpose="weights"} > bool 0': 1,
    'worker_requests_total{outcome="invalid_request"}': 1,
    "worker_time_to_first_token_seconds_count": 3,
    'worker_time_to_first_token_seconds_bucket{le="+Inf"}': 3,
    "worker_inference_duration_ms_count": 3,
    "worker_inter_token_seconds_count > bool 0": 1,
    "worker_queue_depth": 0,
    "worker_running": 0,
    'worker_kv_pages{state="used"}': 0,
    'worker_kv_pages{state="free"} > bool 0': 1,
    "worker_uptime_seconds >= bool 0": 1,
}
expected |= {f'worker_requests_total{{outcome="{reason}"}}': count for reason, count in reasons.items()}


def ask(query):
    try:
        answer = json.load(urlopen(f"{prometheus}/api/v1/query?query={quote(query)}", timeout=5))
    except OSError:
        return None
    result = answer["data"]["result"]
    return float(result[0]["value"][1]) if len(result) == 1 else None


deadline = time.monotonic() + 60
while wrong := {query: (ask(query), value) for query, value in expected.items() if ask(query) != value}:
    if time.monotonic() > deadline:
        sys.exit(f"Prometheus says, and should say: {wrong}")
    time.sleep(0.5)
print(f"Prometheus has {len(expected)} values as expected")
END

# The contract has one name in milliseconds, which the linter minds; nothing else may be wrong.
python3 -c 'import sys, urllib.request as r; sys.stdout.buffer.write(r.urlopen(sys.argv[1]).read())' "$url/metrics" \
    >"$folder/text"
grep -q '^worker_uptime_seconds ' "$folder/text"
promtool check metrics <"$folder/text" >"$folder/lint" 2>&1 || true
if grep -v '^worker_inference_duration_ms .*abbreviated' "$folder/lint"; then
    echo "promtool minds the text above" >&2
    exit 1
fi
echo "promtool has nothing else to say"
