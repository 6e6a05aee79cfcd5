#!/usr/bin/env bash
# Runs the service's unit and the template of its instances under a real systemd, as process 1 of a guest: Debian's packages below
# target/systemd-guest, in namespaces of its own. Kills the service and an instance, and says what systemd did of it. By hand: it needs
# root, debootstrap, some 500 MB and a few minutes, and makes control groups named agent-management-guest.
#
#   scripts/systemd-guest.sh
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf 'systemd-guest: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
[ "$(id -u)" = 0 ] || fail "this needs root"
command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
place=$target/systemd-guest
root=$place/root
port=18012
mkdir -p "$place"
scripts/libtorch.sh
cargo build --quiet --release --locked --bins

if [ ! -e "$place/made" ]; then
    say "making a guest below $place"
    rm -rf "$root"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,libpam-systemd,polkitd,curl,bubblewrap,procps,python3-minimal bookworm "$root" \
        http://deb.debian.org/debian >"$place/debootstrap.log" 2>&1 || fail "that did not work: see $place/debootstrap.log"
    chroot "$root" useradd --system --user-group --home-dir /var/lib/agent-management --no-create-home --shell /usr/sbin/nologin \
        agent-management
    touch "$place/made"
fi
rm -rf "$root/var/lib/agent-management" "$root/etc/agent-management" "$root/var/lib/private"
deploy/install.sh --root "$root" --port $port >&2
echo DEPLOYMENT_SUPERVISOR=systemd >>"$root/etc/agent-management/env"
systemctl --root="$root" enable agent-management.service 2>&1 | grep -v "^Created symlink" >&2 || true

# In control groups of its own, so that nothing outside is the guest's.
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    group=$hierarchy/agent-management-guest
    mkdir -p "$group" 2>/dev/null || continue
    for file in cpuset.cpus cpuset.mems; do
        if [ -e "$group/$file" ] && [ -z "$(cat "$group/$file")" ]; then cat "$hierarchy/$file" >"$group/$file" || true; fi
    done
    groups+=("$group")
done

(
    for group in "${groups[@]}"; do echo $BASHPID >"$group/cgroup.procs" || true; done
    exec unshare --fork --pid --mount --uts --ipc --cgroup scripts/systemd-guest/boot.sh "$root" </dev/null >"$place/boot.log" 2>&1
) &
outer=$!
cleanup() {
    if [ -n "${init:-}" ]; then kill -KILL "$init" 2>/dev/null || true; fi
    wait "$outer" 2>/dev/null || true
    for group in "${groups[@]}"; do find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true; done
}
trap cleanup EXIT
# Waits until a command succeeds.
until_true() {
    local what=$1 left=600
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ $left -gt 0 ] || fail "$what did not happen; see $place/boot.log"
        kill -0 "$outer" 2>/dev/null || fail "the guest ended; see $place/boot.log"
        sleep 0.2
    done
}
child() { init=$(pgrep --parent "$outer" | head -n 1) && [ "$(cat "/proc/$init/comm")" = systemd ]; }
until_true "systemd as process 1" child
inside() { nsenter --target "$init" --pid --mount --uts --ipc --cgroup -- "$@"; }
prop() { inside systemctl show --property="$1" --value "$2"; }
is() { [ "$(prop "$1" "$2")" = "$3" ]; }

version=$(inside systemctl --version | head -n 1)
say "$version is process 1 of the guest"
until_true "the service's start" is ActiveState agent-management.service active
say "agent-management.service is active: process $(prop MainPID agent-management.service), as $(inside ps -o user= -p "$(prop MainPID agent-management.service)")"

inside kill -KILL "$(prop MainPID agent-management.service)"
killed=$(date +%s.%N)
until_true "the service's restart" is NRestarts agent-management.service 1
until_true "the service's readiness" is ActiveState agent-management.service active
say "killed with -9, it is active again after $(python3 -c "import time; print(round(time.time() - $killed, 1))") s, restarted by systemd (NRestarts=1)"

key=$(sed -n 's/^ADMIN_API_KEYS=//p' "$root/etc/agent-management/env")
api=http://127.0.0.1:$port/api/v1/agents
send() { curl -sS --fail-with-body -X "$1" -H "X-Api-Key: $key" -H 'Content-Type: application/json' ${3:+-d "$3"} "$api/$2"; }
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
workflow=$(send POST workflows '{"name": "double", "steps": {"a": {"step_type": "data_processing", "action": {"kind": "jq", "program": ".n * 2"}}}}' | field id)
id=$(send POST "integration/deployments/config?workflow_id=$workflow&deployment_name=shop" \
    '{"min_instances": 2, "max_instances": 3, "min_memory_mb": 256, "health_check_interval": 1}' | field id)
send POST "integration/deployments/$id/deploy" >/dev/null
healthy() { [ "$(send GET "integration/deployments/$id/health" | field healthy_instances)" = "$1" ]; }
until_true "two healthy instances" healthy 2
units() { inside systemctl list-units --plain --no-legend --state=active 'aitbc-agent@*' | cut -d' ' -f1; }
for unit in $(units); do
    say "$unit: process $(prop MainPID "$unit"), MemoryMax=$(prop MemoryMax "$unit"), CPUQuotaPerSecUSec=$(prop CPUQuotaPerSecUSec "$unit"), as $(inside ps -o user= -p "$(prop MainPID "$unit")")"
done
answer=$(send POST "integration/deployments/$id/invoke?wait=20" '{"inputs": {"n": 21}}')
case $answer in *'"a":42'*) say "a call answers: $answer" ;; *) fail "a call answers: $answer" ;; esac

unit=$(units)
unit=${unit%%$'\n'*}
inside kill -KILL "$(prop MainPID "$unit")"
killed=$(date +%s.%N)
until_true "the instance's restart" is NRestarts "$unit" 1
until_true "two healthy instances again" healthy 2
say "an instance killed with -9 is healthy again after $(python3 -c "import time; print(round(time.time() - $killed, 1))") s, restarted by systemd (NRestarts=1)"

inside systemctl restart agent-management.service
until_true "two instances known after a restart" healthy 2
is NRestarts "$unit" 1 || fail "the restart of the service restarted its instances"
say "the service was restarted; its instances went on"

send DELETE "integration/deployments/$id" >/dev/null
gone() { [ -z "$(units)" ]; }
until_true "the end of the units" gone
say "the deployment ended, and its units with it"
