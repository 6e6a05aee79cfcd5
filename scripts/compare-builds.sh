#!/usr/bin/env bash
# Measures this tree's release build beside another commit's, turn by turn in one run, on databases of their own. What the
# other commit needs is built below target/compare-builds, once a commit (some 15 minutes); measuring takes 3 minutes.
#
#   scripts/compare-builds.sh COMMIT [--seconds 4] [--rounds 5] [--connections 32] [--least 0.97]
#   OLD=FOLDER scripts/compare-builds.sh ...    with executables that were built before
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'compare-builds: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
for tool in wrk curl python3; do command -v $tool >/dev/null || die "$tool is missing: apt-get install wrk curl python3"; done

root=$PWD
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
place=$target/compare-builds
mkdir -p "$place"
scripts/libtorch.sh
if [ -z "${OLD:-}" ]; then
    [ $# -gt 0 ] || die "which commit? (or OLD=FOLDER)"
    commit=$(git rev-parse --verify "$1^{commit}")
    shift
    OLD=$place/$commit
    if [ ! -x "$OLD/agent-management" ]; then
        say "building $commit"
        tree=$(mktemp -d "$place/tree.XXXXXX")
        trap 'rm -rf "$tree"' EXIT
        git archive "$commit" | tar -x -C "$tree"
        (cd "$tree" && LIBTORCH=${LIBTORCH:-$root/.libtorch} CARGO_TARGET_DIR=$place/old cargo build --quiet --release --locked --bins)
        mkdir -p "$OLD"
        cp "$place"/old/release/agent-management{,-jq,-sandbox} "$OLD/"
        rm -rf "$tree" "$place/old"
    fi
fi
cargo build --quiet --release --locked --bins

run=$(mktemp -d "$place/run.XXXXXX")
started=()
trap 'kill -TERM "${started[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$run"/{old,new}' EXIT
key=compare-$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
serve() {
    mkdir -p "$run/$1"
    env -u DATABASE_URL APP_ENV=production APP_HOST=127.0.0.1 APP_PORT="$2" DATA_DIR="$run/$1" ADMIN_API_KEYS="$key" \
        CLIENT_API_KEYS="client-$key" MINER_API_KEYS="miner-$key" RATE_LIMIT_REQUESTS=0 LOG_LEVEL=info LOG_FORMAT=json \
        "$3/agent-management" serve >"$run/$1.log" 2>&1 &
    started+=($!)
    for _ in $(seq 300); do
        if curl --fail --silent --output /dev/null "http://127.0.0.1:$2/health/ready"; then return; fi
        kill -0 "${started[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$run/$1.log" >&2
    die "the $1 build does not start"
}
serve old 8214 "$OLD"
serve new 8215 "$target/release"
PYTHONDONTWRITEBYTECODE=1 python3 benches/compare/builds.py --old http://127.0.0.1:8214 --new http://127.0.0.1:8215 --key "$key" --out "$run" "$@"
