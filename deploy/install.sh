#!/usr/bin/env bash
# Installs the service that `cargo build --release` made. Run again at any time: what is right already is left
# alone, and the settings in /etc/agent-management/env are never overwritten.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: deploy/install.sh [options]        (as root)

Puts the binary into /usr/local/bin, libtorch's libraries into /usr/local/lib/agent-management, the unit into
/etc/systemd/system and a first settings file with a fresh admin key into /etc/agent-management/env; makes the
user agent-management. Completions go where bash, zsh and fish look for them, and man pages to /usr/local/share/man, as far
as those directories are there.

  --database FILE   use the coordinator's database FILE (absolute): sets DATABASE_URL in a new settings file, and
                    lets the service write in FILE's directory
  --group GROUP     the group that owns that directory (the coordinator's), which the service then joins
  --port PORT       listen on PORT instead of 8012: sets APP_PORT in a new settings file
  --nginx           also install deploy/nginx.conf as /etc/nginx/conf.d/agent-management.conf, with the port of the
                    settings file
  --binary FILE     the binary (default: target/release/agent-management)
  --libtorch DIR    libtorch (default: $LIBTORCH, else .libtorch)
  --root DIR        install below DIR instead of /, for packages and tests; makes no user, starts nothing
  --dry-run         say what would be done, and do nothing
  --help            this text
TEXT
}
say() { printf 'install: %s\n' "$*"; }
die() { printf 'install: %s\n' "$*" >&2; exit 1; }

here=$(cd "$(dirname "$0")" && pwd)
source=$(dirname "$here")
root='' dry='' nginx='' database='' group='' port=''
binary=${CARGO_TARGET_DIR:-$source/target}/release/agent-management
libtorch=${LIBTORCH:-$source/.libtorch}
while [ $# -gt 0 ]; do
    case $1 in
        --database | --group | --port | --binary | --libtorch | --root)
            [ -n "${2:-}" ] || die "$1 wants a value"
            declare "${1#--}=$2"
            shift
            ;;
        --dry-run) dry=yes ;;
        --nginx) nginx=yes ;;
        --help | -h) usage && exit ;;
        *) usage >&2 && die "unknown option $1" ;;
    esac
    shift
done

[ -x "$binary" ] || die "no binary at $binary: run  cargo build --release  (after scripts/libtorch.sh), or name it with --binary"
[ -e "$libtorch/lib/libtorch_cpu.so" ] || die "no libtorch at $libtorch: run  scripts/libtorch.sh, or name it with --libtorch"
case $database in '' | /*) ;; *) die "--database wants an absolute path" ;; esac
[[ $database$group =~ ^[A-Za-z0-9_./-]*$ ]] || die "--database and --group: letters, digits and . _ - / only"
[[ $port =~ ^[0-9]*$ ]] || die "--port wants a number"
[ -z "$group" ] || [ -n "$database" ] || die "--group goes with --database"
if [ -z "$dry$root" ]; then
    [ "$(id -u)" = 0 ] || die "this needs root (or --root DIR, or --dry-run)"
    [ -z "$group" ] || getent group "$group" >/dev/null || die "there is no group $group"
    [ -z "$database" ] || [ -d "$(dirname "$database")" ] || die "there is no directory $(dirname "$database")"
fi

changed=''
act() {
    if [ -n "$dry" ]; then say "would run: $*"; else "$@"; fi
}
# put MODE SOURCE TARGET: a copy, unless the same is there. `install` replaces the file, so that a running
# process keeps what it has open.
put() {
    local target=$root$3
    if cmp -s "$2" "$target" && [ "$(stat -c %a "$target")" = "$1" ]; then return; fi
    say "$3"
    act install -D -m "$1" "$2" "$target"
    changed=yes
}

if [ -z "$root" ] && ! getent passwd agent-management >/dev/null; then
    say "user agent-management"
    act useradd --system --user-group --home-dir /var/lib/agent-management --no-create-home --shell /usr/sbin/nologin agent-management
fi

put 755 "$binary" /usr/local/bin/agent-management
for helper in jq sandbox agent; do
    put 755 "$(dirname "$binary")/agent-management-$helper" "/usr/local/bin/agent-management-$helper"
done
for library in libtorch.so libtorch_cpu.so libc10.so libgomp.so.1 libcudart.so.13 libcupti.so.13; do
    put 644 "$libtorch/lib/$library" "/usr/local/lib/agent-management/$library"
done
put 644 "$here/agent-management.service" /etc/systemd/system/agent-management.service
# For DEPLOYMENT_SUPERVISOR=systemd: the unit of the instances, and what lets the service start them. Nothing is started by them being there.
put 644 "$here/aitbc-agent@.service" /etc/systemd/system/aitbc-agent@.service
put 644 "$here/aitbc-agent.rules" /etc/polkit-1/rules.d/50-aitbc-agent.rules

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ -n "$database" ]; then
    {
        echo "# Written by install.sh --database: the database shared with the coordinator."
        echo "[Service]"
        echo "ReadWritePaths=$(dirname "$database")"
        [ -z "$group" ] || echo "SupplementaryGroups=$group"
        # Both processes must be able to write what either of them made.
        [ -z "$group" ] || echo "UMask=0007"
    } >"$scratch/database.conf"
    put 644 "$scratch/database.conf" /etc/systemd/system/agent-management.service.d/database.conf
fi

# What the binary itself prints for shells and man, where something reads it.
words() { LD_LIBRARY_PATH="$libtorch/lib" "$binary" "$@" 2>/dev/null </dev/null; }
# install_completions SHELL DIRECTORY FILE: the shell's completions, if its directory is there.
install_completions() {
    if [ ! -d "$root$2" ]; then return; fi
    if words completions "$1" >"$scratch/completions" && [ -s "$scratch/completions" ]; then
        put 644 "$scratch/completions" "$2/$3"
    else
        say "the binary prints no completions for $1; they are left out"
    fi
}
install_completions bash /usr/share/bash-completion/completions agent-management
install_completions zsh /usr/share/zsh/vendor-completions _agent-management
install_completions fish /usr/share/fish/vendor_completions.d agent-management.fish
if [ -d "$root/usr/local/share/man" ] || [ -d "$root/usr/share/man" ]; then
    if words man "$scratch/man" && [ -d "$scratch/man" ]; then
        for page in "$scratch"/man/*.1; do put 644 "$page" "/usr/local/share/man/man1/$(basename "$page")"; done
    else
        say "the binary writes no man pages; they are left out"
    fi
fi

settings=/etc/agent-management/env
if [ -e "$root$settings" ]; then
    say "$settings is there and stays as it is"
    if [ -n "$database" ] && ! grep -qxF "DATABASE_URL=sqlite:///$database" "$root$settings"; then
        say "  but does not say DATABASE_URL=sqlite:///$database: please change it"
    fi
    if [ -n "$port" ] && ! grep -qxF "APP_PORT=$port" "$root$settings"; then
        say "  but does not say APP_PORT=$port: please change it"
    fi
else
    key() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
    # Production starts with no empty list, so that nobody forgets one. Written by the shell itself: the arguments of a
    # program are there for every user to read.
    while IFS= read -r line; do
        case $line in
            ADMIN_API_KEYS=* | CLIENT_API_KEYS=* | MINER_API_KEYS=*) line=${line%%=*}=$(key) ;;
            MESSAGE_KEYS=*) line=MESSAGE_KEYS=first:$(head -c 32 /dev/urandom | base64) ;;
        esac
        printf '%s\n' "$line"
    done <"$here/env" >"$scratch/env"
    [ -z "$database" ] || sed -i "s|^#DATABASE_URL=.*|DATABASE_URL=sqlite:///$database|" "$scratch/env"
    [ -z "$port" ] || sed -i "s|^APP_PORT=.*|APP_PORT=$port|" "$scratch/env"
    put 600 "$scratch/env" "$settings"
    say "  it holds a fresh key of each role and one for messages, for root to read"
fi

if [ -n "$nginx" ]; then
    # In a dry run the settings file may not be there yet.
    listening=$(sed -n 's/^APP_PORT=\([0-9]*\)$/\1/p' "$root$settings" 2>/dev/null || sed -n 's/^APP_PORT=//p' "$scratch/env")
    sed "s/server 127\.0\.0\.1:8012;/server 127.0.0.1:${listening:-8012};/" "$here/nginx.conf" >"$scratch/nginx.conf"
    put 644 "$scratch/nginx.conf" /etc/nginx/conf.d/agent-management.conf
    [ -n "$root" ] || act nginx -t -q
fi

if [ -z "$root" ] && ! command -v bwrap >/dev/null; then
    say "bubblewrap is not installed, so steps of kind command will be refused:  apt-get install bubblewrap"
fi
[ -n "$changed" ] || say "everything is as it should be"
if [ -z "$root" ] && [ -d /run/systemd/system ]; then
    act systemctl daemon-reload
    say "start it with:  systemctl enable --now agent-management    (after a change: systemctl restart agent-management)"
fi
