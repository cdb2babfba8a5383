#!/bin/bash
# Install the programs that a job needs, as root with apt-get; else name the missing ones:
# scripts/system-packages.sh build|test|nested|notebook|bench
#
# A missing `build` or `nested` program is an error. If another one is missing, some tests or measurements skip, each with its
# reason. With CI=true nothing may skip, so it is an error too.
set -eu

job=$1

# Print program, Debian package, purpose.
programs() {
    case $job in
        build)
            echo "cc gcc linking"
            ;;
        test)
            echo "cc gcc compiling the tests' no-op program"
            echo "unshare util-linux starting containers without minidocker"
            echo "setpriv util-linux running the tests as a plain user"
            echo "useradd passwd making the plain user"
            echo "newuidmap uidmap subordinate ids"
            echo "bwrap bubblewrap attaching to a container that bubblewrap started"
            echo "ip iproute2 looking at network interfaces"
            echo "ps procps looking at processes from inside"
            echo "busybox busybox-static a root file system of one program"
            echo "dpkg-deb dpkg installing a package on an overlay"
            echo "git git committing on an overlay"
            echo "strace strace tracing system calls"
            echo "ping iputils-ping reaching loopback from inside"
            echo "jq jq running the command lines of the documentation"
            echo "zsh zsh completing the command line"
            echo "fish fish completing the command line"
            echo "CPython's-own-tests libpython3-testsuite comparing Popen with subprocess.Popen"
            ;;
        nested)
            echo "cc gcc compiling the tests' no-op program"
            echo "unshare util-linux outer containers"
            echo "bwrap bubblewrap outer containers"
            echo "dockerd docker.io outer containers of a real engine"
            echo "docker docker.io the client of that engine"
            echo "runc runc starting the engines' containers"
            echo "podman podman outer containers without root"
            echo "newuidmap uidmap podman's ids"
            ;;
        notebook)
            echo "chromium chromium showing a notebook"
            ;;
        bench)
            echo "cc gcc compiling the no-op program"
            echo "bwrap bubblewrap comparisons"
            echo "unshare util-linux comparisons"
            echo "runc runc comparisons"
            ;;
        *)
            echo "usage: $0 build|test|nested|notebook|bench" >&2
            exit 2
            ;;
    esac
}

have() {
    case $1 in
        CPython\'s-own-tests)
            # Debian has them in a package of their own; other builds of Python include them or cannot have them.
            .venv/bin/python -c '
import os, sys
os.execv(sys._base_executable, ["python", "-c", "import test.test_subprocess"])' 2>/dev/null
            ;;
        *)
            PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null
            ;;
    esac
}

missing() {
    programs | while read -r program package purpose; do
        have "$program" </dev/null || echo "$program $package $purpose"
    done
}

lacking=$(missing)
[ -n "$lacking" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    packages=$(echo "$lacking" | cut -d ' ' -f 2 | sort -u)
    # shellcheck disable=SC2086 # a list of names
    echo "==> installing" $packages
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    { apt-get -qq update && apt-get -qq install --yes --no-install-recommends $packages; } </dev/null >/dev/null ||
        echo "make: apt-get could not install" $packages >&2
    lacking=$(missing)
    [ -n "$lacking" ] || exit 0
fi

echo "$lacking" | while read -r program package purpose; do
    echo "make: missing: $program (Debian package $package), for $purpose" >&2
done
echo "make: remedy, as root: apt-get install $(echo "$lacking" | cut -d ' ' -f 2 | sort -u | xargs)" >&2
if [ "$job" = build ] || [ "$job" = nested ] || [ "${CI:-}" = true ]; then
    exit 1
fi
echo "make: continuing without; tests and measurements that need it skip, with the reason" >&2
