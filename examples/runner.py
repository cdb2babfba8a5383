#!/usr/bin/env python3
"""Run a command in a container: runner.py HOSTNAME COMMAND [ARG ...]

    runner.py mycontainer sh
    runner.py mycontainer uname -n

The exit status is the command's own, or 128+n if signal n ended it.
"""

import sys

import minidocker


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    hostname, *command = arguments
    try:
        returncode = minidocker.run(command, hostname=hostname).returncode
    except minidocker.CommandNotFound as error:
        print(f"runner.py: {error}", file=sys.stderr)
        return 127
    except minidocker.Error as error:
        print(f"runner.py: {error}", file=sys.stderr)
        return 125
    return 128 - returncode if returncode < 0 else returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
