#!/usr/bin/env bash
# Send requests that ask for too much work, alone and 32 at once, under 3 GB of memory (benches/fuzz).
# BINARY: a server that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${BINARY:-}
if [[ -z $binary ]]; then
    cargo build --release --locked --bins
    binary=${CARGO_TARGET_DIR:-target}/release/agent-management
fi
exec python3 benches/fuzz/bombs.py --binary "$binary"
