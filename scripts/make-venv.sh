#!/bin/bash
# Make a virtual environment: scripts/make-venv.sh PYTHON DIRECTORY
set -eu

python=$1
venv=$2

if ! command -v "$python" >/dev/null; then
    echo "make: no $python found. Remedy: install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "make: $python is $("$python" --version 2>&1), and minidocker needs Python 3.11 or newer." \
        "Remedy: name a newer one: make PYTHON=/path/to/python3" >&2
    exit 1
fi
if ! command -v cargo >/dev/null; then
    echo "make: no cargo found. Remedy: install a Rust toolchain (rustup.rs, or the package cargo)" \
        "and add it to PATH" >&2
    exit 1
fi

# Make it readable by others, despite the caller's umask: the tests also run as a plain user.
umask 022
echo "==> making $venv with $("$python" --version)"
if ! "$python" -m venv "$venv"; then
    rm -rf "$venv"
    echo "make: $python cannot make a virtual environment." \
        "Remedy: on Debian and Ubuntu, apt-get install python3-venv" >&2
    exit 1
fi
