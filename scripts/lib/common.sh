# Shared by the scripts here; to be sourced. Bash, with `set -euo pipefail` in the caller.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
logs=$target/logs
tools=$target/tools
mkdir -p "$logs" "$tools"

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' plain=$'\e[0m'
else
    bold='' red='' green='' yellow='' plain=''
fi

say() { printf '%s\n' "$*"; }
complain() { printf '%s%s%s\n' "$red" "$*" "$plain" >&2; }

failed=()

# stage NAME COMMAND...: runs it, keeps its output in a log, prints one line. A failure shows the
# end of the log; the next stages run all the same, and finish() tells in the end.
stage() {
    local name=$1 start=$SECONDS status
    shift
    local log=$logs/${name//[^a-zA-Z0-9]/-}.log
    printf '%-28s ' "$name"
    # Not `|| status=$?`: what stands before that is run without errexit, and of a function only its last command would count.
    set +o errexit
    (set -o errexit; "$@") >"$log" 2>&1 </dev/null
    status=$?
    set -o errexit
    local took=$((SECONDS - start))
    if [ "$status" = 0 ]; then
        # A stage may leave lines to be shown beside its time.
        local note
        note=$(sed -n 's/^stage-note: //p' "$log" | paste -sd ';')
        printf '%sok%s      %4d s%s\n' "$green" "$plain" "$took" "${note:+  $note}"
    else
        failed+=("$name")
        printf '%sfailed%s  %4d s\n' "$red" "$plain" "$took"
        tail -n "${STAGE_LINES:-60}" "$log" >&2
        complain "$name failed (exit $status); all of its output: $log"
    fi
}

# must NAME COMMAND...: a stage without which the others make no sense.
must() {
    local before=${#failed[@]}
    stage "$@"
    [ "$before" = ${#failed[@]} ] || finish
}

# Ends the script if a stage has failed.
finish() {
    [ ${#failed[@]} = 0 ] || {
        complain "failed: ${failed[*]}"
        exit 1
    }
}

# build_programs [--release]: those that tests, demonstrations and measurements start. With --release as users get them;
# without it as they are when the tests are built, so that nothing is built for both.
build_programs() {
    case ${1:-} in
    --release) set -- --release --package ringway --package ringway-bench --package ringway-test-plane ;;
    '') set -- --workspace --bins --test cli ;;
    *)
        complain "build_programs knows --release, not $1"
        return 64
        ;;
    esac
    cargo build --quiet "$@"
}

# Prints the flags with which unshare(1) can give us namespaces of our own here, or fails.
isolation_flags() {
    local flags
    if [ "$(id -u)" = 0 ]; then
        set -- "-mnp" "-Umnpr"
    else
        set -- "-Umnpr"
    fi
    for flags in "$@"; do
        if unshare "$flags" --fork --kill-child --mount-proc true 2>/dev/null; then
            printf '%s' "$flags"
            return
        fi
    done
    return 1
}

# isolated COMMAND...: runs it as root of network, mount and process-id namespaces of its own. When
# it ends, in whatever way, the kernel takes everything away that was made inside: processes,
# namespaces, interfaces, rules.
isolated() {
    local flags
    if ! flags=$(isolation_flags); then
        complain "Network namespaces can be made neither as root nor through user namespaces here."
        complain "Run this as root, in a container with --privileged, or allow user namespaces:"
        complain "  sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000"
        return 77
    fi
    # shellcheck disable=SC2016
    unshare "$flags" --fork --kill-child --mount-proc bash -ec '
        mount -t tmpfs -o mode=755 tmpfs /run
        mkdir -p /run/netns /run/lock
        mkdir -p /tmp/ringway-lab && mount -t tmpfs tmpfs /tmp/ringway-lab
        ip link set lo up
        exec "$@"' isolated "$@"
}

# need PROGRAM PACKAGE: makes sure that a program is here; root gets the package that has it, where
# there is apt-get.
need() {
    command -v "$1" >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "The program $1 is not here; installing $2."
        { apt-get update && apt-get install -y --no-install-recommends "$2"; } \
            >"$logs/apt.log" 2>&1 && return
        complain "apt-get install $2 failed, see $logs/apt.log"
    else
        complain "The program $1 is missing. Debian: apt-get install $2"
    fi
    return 69
}

# Makes sure that redirect rules can be written.
need_redirect_tool() {
    command -v iptables >/dev/null || need nft nftables
}

# Makes sure that `ip` is here.
need_ip() {
    need ip iproute2
}

# Makes sure that Rust and a linker are here. Rust is the user's to install.
need_rust() {
    command -v cargo >/dev/null || {
        complain "cargo is missing. Rust comes from https://rustup.rs; README.md says which version."
        return 69
    }
    need cc gcc
}

# tool_venv PACKAGE...: Python packages that bundle a program, in an environment of our own.
tool_venv() {
    local venv=$tools/python
    [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"
}

PATH=$PATH:/usr/sbin:/sbin
