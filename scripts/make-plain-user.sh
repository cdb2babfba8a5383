#!/bin/bash
# Make sure that a plain user with subordinate ids exists, as root: scripts/make-plain-user.sh USER
set -eu
PATH=$PATH:/usr/sbin:/sbin

user=$1

if ! id "$user" >/dev/null 2>&1; then
    echo "==> making the user $user"
    useradd --create-home --shell /bin/bash "$user"
fi
if [ "$(id -u "$user")" = 0 ]; then
    echo "make: $user is root, and the tests need a plain user. Remedy: name another one: make TEST_USER=NAME" >&2
    exit 1
fi

# useradd adds rows only if the files exist and login.defs says so.
add_rows() {
    local file=$1 option=$2 first
    touch "$file"
    if ! grep -q "^$user:" "$file"; then
        first=$(awk -F : 'BEGIN { next_free = 100000 }
            $2 + $3 > next_free { next_free = $2 + $3 }
            END { print next_free }' "$file")
        usermod "$option" "$first-$((first + 65535))" "$user"
    fi
}
add_rows /etc/subuid --add-subuids
add_rows /etc/subgid --add-subgids
