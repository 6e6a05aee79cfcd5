#!/usr/bin/env bash
# Send random requests from a seed to the service under 3 GB of memory (benches/fuzz). SEED, REQUESTS, SECONDS_EACH: other sizes.
# BINARY: a server that is built already. ARGUMENTS: more options, such as `--only 17`.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/release-binary.sh
# shellcheck disable=SC2086
exec python3 benches/fuzz/fuzz_http.py --binary "$binary" --document docs/openapi.json \
    --requests "${REQUESTS:-100000}" --seconds "${SECONDS_EACH:-300}" --seed "${SEED:-$(date +%s)}" ${ARGUMENTS:-}
