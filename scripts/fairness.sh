#!/usr/bin/env bash
# Measure by how much one principal's flood delays another's single requests (docs/ARCHITECTURE.md, "Fair shares"). Prints a table;
# fails when a median is more than twice as long. BINARY: a server that is built already. Further arguments go to benches/fairness.py.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/release-binary.sh
exec python3 benches/fairness.py --binary "$binary" "$@"
