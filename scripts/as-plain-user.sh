#!/bin/bash
# Run a command in this clone as a plain user, as root: scripts/as-plain-user.sh USER COMMAND [ARG ...]
#
# The user keeps no capability and no supplementary group of root, and gets an environment as after a log-in.
# The clone and the interpreter behind .venv may lie below a directory that this user cannot enter, such as /root.
# In that case a private mount namespace replaces that directory by an empty one that contains only the clone and the
# interpreter. The script changes no modes on the machine and shows nothing else of the directory. It mounts over the
# closed directory only, so /proc and /sys stay fully visible and an unprivileged user namespace can mount fresh ones.
set -eu

if [ "$(id -u)" != 0 ] || [ $# -lt 2 ]; then
    echo "usage, as root: $0 USER COMMAND [ARG ...]" >&2
    exit 2
fi

user=$1
shift
clone=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$clone"

uid=$(id -u "$user")
gid=$(id -g "$user")
home=$(getent passwd "$user" | cut -d : -f 6)

as_user() {
    setpriv --reuid "$uid" --regid "$gid" --init-groups --inh-caps=-all --ambient-caps=-all -- "$@"
}

# Test whether the mode of a directory lets the user list and enter it.
can_enter() {
    as_user sh -c 'test -r "$1" && test -x "$1"' sh "$1"
}

# Print the directories that the command needs, one a line: the clone, and the interpreter's, both by the path in .venv
# and by the real path.
needed() {
    echo "$clone"
    .venv/bin/python - <<'PYTHON'
import os.path, sys

executable = sys._base_executable
prefixes = [sys.base_prefix, os.path.dirname(os.path.dirname(executable)),
            os.path.dirname(os.path.dirname(os.path.realpath(executable)))]
for prefix in dict.fromkeys(prefixes):
    print(prefix)
PYTHON
}

# Print the topmost directory on the way to a path, the path included, that the user cannot enter.
closed_ancestor() {
    local path=$1 at= part parts
    IFS=/ read -ra parts <<<"${path#/}"
    for part in "${parts[@]}"; do
        at=$at/$part
        if ! as_user test -x "$at"; then
            echo "$at"
            return
        fi
    done
}

# Save a path in the stash, to restore it after its closed ancestor is covered. For a closed directory, save its
# entries; it becomes an open directory.
keep() {
    local path=$1 slot entry
    if [ -L "$path" ]; then
        printf 'link\t%s\t%s\n' "$path" "$(readlink "$path")" >>"$stash/list"
        return
    fi
    slot=$stash/$((kept += 1))
    if [ -d "$path" ]; then mkdir "$slot"; else : >"$slot"; fi
    mount --rbind "$path" "$slot"
    if [ -d "$path" ] && ! can_enter "$slot"; then
        umount --lazy "$slot"
        for entry in "$path"/* "$path"/.[!.]* "$path"/..?*; do
            if [ -e "$entry" ] || [ -L "$entry" ]; then keep "$entry"; fi
        done
    else
        printf 'mount\t%s\t%s\n' "$path" "$slot" >>"$stash/list"
    fi
}

open_the_way() {
    local path closed kind target
    stash=$(mktemp --directory)
    kept=0
    mount -t tmpfs -o mode=755,size=1m tmpfs "$stash"
    : >"$stash/list"
    : >"$stash/closed"
    while IFS= read -r path; do
        closed=$(closed_ancestor "$path")
        if [ -n "$closed" ]; then
            echo "$closed" >>"$stash/closed"
            keep "$path"
        fi
    done < <(needed)
    while IFS= read -r closed; do
        mount -t tmpfs -o mode=755,size=1m tmpfs "$closed"
    done < <(sort -u "$stash/closed")
    while IFS=$'\t' read -r kind path target; do
        mkdir -p "$(dirname "$path")"
        if [ "$kind" = link ]; then
            ln -s "$target" "$path"
        elif [ -d "$target" ]; then
            mkdir -p "$path"
            mount --move "$target" "$path"
        else
            : >"$path"
            mount --move "$target" "$path"
        fi
    done <"$stash/list"
    umount "$stash"
    rmdir "$stash"
    cd "$clone"
}

if [ "$1" = --inside ]; then
    shift
    umask 022
    open_the_way
    cd "$clone"
elif [ -n "$(needed | while IFS= read -r path; do closed_ancestor "$path"; done)" ]; then
    exec unshare --mount --propagation private -- "$0" "$user" --inside "$@"
fi

if ! as_user test -r pyproject.toml || ! as_user .venv/bin/python -c '' </dev/null; then
    echo "$0: $user cannot read the clone $clone or run its .venv/bin/python." \
        "Remedy: chmod -R go+rX $clone" >&2
    exit 1
fi

# The variables of a log-in, and those that control the tests.
environment=("HOME=$home" "USER=$user" "LOGNAME=$user" "SHELL=/bin/bash" "PYTHONDONTWRITEBYTECODE=1"
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
for name in CI TERM COLUMNS LANG LC_ALL PYTEST_ADDOPTS; do
    if [ -n "${!name:-}" ]; then environment+=("$name=${!name}"); fi
done
exec setpriv --reuid "$uid" --regid "$gid" --init-groups --inh-caps=-all --ambient-caps=-all -- \
    env --ignore-environment "${environment[@]}" "$@"
