#!/usr/bin/env bash
# Send random requests from a seed to the service under 3 GB of memory (benches/fuzz). SEED, REQUESTS, SECONDS_EACH: other sizes.
# BINARY: a server that is built already. ARGUMENTS: more options, such as `--only 17`.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${BINARY:-}
if [[ -z $binary ]]; then
    cargo build --release --locked --bins
    binary=${CARGO_TARGET_DIR:-target}/release/agent-management
fi
# shellcheck disable=SC2086
exec python3 benches/fuzz/fuzz_http.py --binary "$binary" --document docs/openapi.json \
    --requests "${REQUESTS:-100000}" --seconds "${SECONDS_EACH:-300}" --seed "${SEED:-$(date +%s)}" ${ARGUMENTS:-}
