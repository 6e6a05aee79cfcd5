#!/usr/bin/env bash
# Checks deploy/ without touching the machine: installs twice into a scratch root (with stand-ins for the binary and
# libtorch), and asks systemd what it thinks of the unit. Needs systemd-analyze (Debian's package systemd).
set -euo pipefail
cd "$(dirname "$0")/.."
command -v systemd-analyze >/dev/null || { echo "systemd-analyze is missing: apt-get install systemd" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "check-deploy: $*" >&2; exit 1; }

mkdir -p "$scratch/torch/lib"
for library in libtorch libtorch_cpu libc10 libgomp libcudart libcupti; do
    for suffix in so so.1 so.13; do echo "$library" >"$scratch/torch/lib/$library.$suffix"; done
done
cat >"$scratch/binary" <<'EOF' && chmod +x "$scratch/binary"
#!/bin/sh
case $1 in
    completions) echo "completions of $2" ;;
    man) mkdir "$2" && echo page >"$2/agent-management.1" && echo page >"$2/agent-management-runs.1" ;;
esac
EOF
for helper in jq sandbox agent; do
    printf '#!/bin/sh\n' >"$scratch/agent-management-$helper" && chmod +x "$scratch/agent-management-$helper"
done
root=$scratch/root
install=(deploy/install.sh --root "$root" --binary "$scratch/binary" --libtorch "$scratch/torch"
    --database /srv/coordinator/coordinator.db --group coordinator --nginx)

"${install[@]}" --dry-run >/dev/null
[ ! -e "$root" ] || fail "--dry-run wrote something"
# Completions and man pages go where there is something to read them, and make no directory for it.
mkdir -p "$root/usr/share/bash-completion/completions" "$root/usr/share/fish/vendor_completions.d" "$root/usr/share/man"
"${install[@]}" >/dev/null
grep -qx "completions of bash" "$root/usr/share/bash-completion/completions/agent-management" || fail "bash has no completions"
grep -qx "completions of fish" "$root/usr/share/fish/vendor_completions.d/agent-management.fish" || fail "fish has no completions"
[ ! -e "$root/usr/share/zsh" ] || fail "a directory was made for zsh, which is not there"
for page in agent-management agent-management-runs; do
    [ -s "$root/usr/local/share/man/man1/$page.1" ] || fail "there is no man page $page"
done
before=$(cd "$root" && find . -type f -exec stat -c '%n %a %Y' {} + | sort && sha256sum etc/agent-management/env)
"${install[@]}" | grep -qF "everything is as it should be" || fail "a second install found something to do"
after=$(cd "$root" && find . -type f -exec stat -c '%n %a %Y' {} + | sort && sha256sum etc/agent-management/env)
[ "$before" = "$after" ] || fail "a second install changed something"
[ "$(stat -c %a "$root/etc/agent-management/env")" = 600 ] || fail "the settings file can be read by others"
grep -qx 'ADMIN_API_KEYS=[0-9a-f]\{48\}' "$root/etc/agent-management/env" || fail "no admin key was made"
grep -qx 'MESSAGE_KEYS=first:[A-Za-z0-9+/]\{43\}=' "$root/etc/agent-management/env" || fail "no key for messages was made"
grep -qx 'DATABASE_URL=sqlite:////srv/coordinator/coordinator.db' "$root/etc/agent-management/env" || fail "DATABASE_URL is not set"

# A binary that was built here looks for libraries beside itself first, and never in the directory of the build.
built=${BINARY:-}
for made in "${CARGO_TARGET_DIR:-target}"/{release,debug}/agent-management; do
    if [ -z "${BINARY:-}" ] && [ -x "$made" ] && [ "$made" -nt "${built:-/nowhere}" ]; then built=$made; fi
done
if [ -n "$built" ]; then
    runpath=$(readelf -d "$built" | sed -n 's/.*(R\(UN\)\?PATH).*\[\(.*\)\]/\2/p')
    # shellcheck disable=SC2016 # The linker's word, not the shell's.
    [[ $runpath == '$ORIGIN/../lib/agent-management'* ]] || fail "the library path of $built begins elsewhere: $runpath"
    [[ ! $runpath =~ (^|:)/ ]] || fail "$built looks for libraries in an absolute directory: $runpath"
else
    echo "check-deploy: no binary is built; its library path is not checked" >&2
fi

# The units that ours names (targets) come from this machine's systemd.
mkdir -p "$root/usr/lib/systemd" "$root/lib"
cp -r /lib/systemd/system "$root/usr/lib/systemd/system"
ln -s ../usr/lib/systemd "$root/lib/systemd"
complaints=$(systemd-analyze verify --man=no --root="$root" agent-management.service 2>&1 | grep -F agent-management || true)
[ -z "$complaints" ] || fail "$complaints"
# Of the template an instance, as the service names them.
complaints=$(systemd-analyze verify --man=no --root="$root" aitbc-agent@deploy_1.1.service 2>&1 | grep -F aitbc-agent || true)
[ -z "$complaints" ] || fail "$complaints"

# Exposure in tenths: 3.0 at most.
verdict=$(systemd-analyze security --no-pager --offline=true --threshold=30 deploy/agent-management.service) ||
    fail "$(tail -n 1 <<<"$verdict")"
tail -n 1 <<<"$verdict"
verdict=$(systemd-analyze security --no-pager --offline=true --threshold=20 deploy/aitbc-agent@.service) ||
    fail "$(tail -n 1 <<<"$verdict")"
tail -n 1 <<<"$verdict"
