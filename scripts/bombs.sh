#!/usr/bin/env bash
# Send requests that ask for too much work, alone and 32 at once, under 3 GB of memory (benches/fuzz).
# BINARY: a server that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/release-binary.sh
exec python3 benches/fuzz/bombs.py --binary "$binary"
