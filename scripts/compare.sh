#!/usr/bin/env bash
# Measures the release build against the stack that the monolith stands on, Restate, DBOS, Duroxide and assay-engine, all
# in one run on this machine, and prints one table. Everything it needs and writes is below target/compare; all servers
# listen on loopback and are ended when it ends. About 8 minutes, after some 30 minutes for building and fetching the
# first time.
#
#   scripts/compare.sh [--seconds 5] [--rounds 3] [--connections 32]
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'compare: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

for tool in wrk npm node curl python3; do
    command -v $tool >/dev/null || die "$tool is missing: apt-get install wrk npm nodejs curl python3-venv"
done
# Of Duroxide's SQLite driver.
if ! pkg-config --exists openssl; then die "OpenSSL's headers are missing: apt-get install libssl-dev pkg-config"; fi
# Restate's and its service's ports are fixed in the peer's source; ours and the monolith stack's are only unusual.
ours=8212 peer=8213 ingress=8080 admin=9070 flow=9080
for port in $ours $peer $ingress $admin $flow 5122; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then die "port $port is in use"; fi
done

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
place=$target/compare
here=$PWD/benches/compare
mkdir -p "$place"

say "step 1 of 4: the peers (Python packages, Restate's server, and the programs in Rust)"
[ -x "$place/venv/bin/pip" ] || python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
npm install --silent --no-save --ignore-scripts --no-audit --no-fund --prefix "$place/npm" @restatedev/restate-server@1.7.12
for name in restate duroxide assay; do
    CARGO_TARGET_DIR=$place/$name-target RUSTFLAGS=--cap-lints=allow cargo build --quiet --release --locked --manifest-path "$here/$name/Cargo.toml"
done

say "step 2 of 4: the service"
scripts/libtorch.sh
cargo build --quiet --release --locked

run=$(mktemp -d "$place/run.XXXXXX")
started=()
finish() {
    # Each server leads a process group of its own: first politely, then not.
    for pid in "${started[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
    for _ in $(seq 100); do
        local alive=''
        for pid in "${started[@]}"; do if kill -0 -- "-$pid" 2>/dev/null; then alive=yes; fi; done
        [ -n "$alive" ] || break
        sleep 0.1
    done
    for pid in "${started[@]}"; do kill -KILL -- "-$pid" 2>/dev/null || true; done
    # The databases go, what was printed stays.
    rm -rf "$run"/{ours,peer,restate,tmp}
}
trap finish EXIT
trap 'exit 130' INT TERM

# start NAME COMMAND...: in the background, in its own empty directory, its output beside it.
start() {
    mkdir -p "$run/$1"
    # shellcheck disable=SC2016 # expanded by the inner shell
    setsid bash -c 'cd "$1" && shift && exec "$@"' - "$run/$1" "${@:2}" >"$run/$1.log" 2>&1 &
    started+=($!)
}
ready() {
    for _ in $(seq 300); do
        if curl --fail --silent --output /dev/null "$2"; then return; fi
        kill -0 "${started[-1]}" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 20 "$run/$1.log" >&2
    die "$1 does not answer at $2"
}

say "step 3 of 4: starting everything"
key=compare-$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
start ours env -u DATABASE_URL APP_ENV=production APP_HOST=127.0.0.1 APP_PORT=$ours DATA_DIR="$run/ours" \
    ADMIN_API_KEYS="$key" CLIENT_API_KEYS="client-$key" MINER_API_KEYS="miner-$key" RATE_LIMIT_REQUESTS=0 LOG_LEVEL=info LOG_FORMAT=json "$target/release/agent-management" serve
service=${started[-1]}
ready ours http://127.0.0.1:$ours/health/ready
start peer env PEER_DB="$run/peer/peer.sqlite" PYTHONPATH="$here" PYTHONDONTWRITEBYTECODE=1 \
    "$place/venv/bin/python" -m uvicorn peer:app --host 127.0.0.1 --port $peer --log-level warning
ready peer http://127.0.0.1:$peer/health
start flow "$place/restate-target/release/restate-peer"
start restate env RESTATE_DISABLE_TELEMETRY=true "$place"/npm/node_modules/@restatedev/restate-server-linux-*/bin/restate-server \
    --base-dir "$run/restate" --bind-ip 127.0.0.1 --listen-mode tcp --no-logo
ready restate http://127.0.0.1:$admin/health
curl --fail --silent --show-error --output "$run/registration.json" --header 'content-type: application/json' \
    --data "{\"uri\": \"http://127.0.0.1:$flow\"}" http://127.0.0.1:$admin/deployments

say "step 4 of 4: measuring (raw output in $run)"
mkdir -p "$run/tmp"
TMPDIR=$run/tmp "$place/venv/bin/python" "$here/run.py" --ours http://127.0.0.1:$ours --peer http://127.0.0.1:$peer \
    --restate http://127.0.0.1:$ingress/Flow/run \
    --duroxide "$place/duroxide-target/release/duroxide-peer" --assay "$place/assay-target/release/assay-peer" \
    --key "$key" --pid "$service" --out "$run" "$@"
