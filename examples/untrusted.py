#!/usr/bin/env python3
"""Untrusted code: its rights as a plain command, and with profile="untrusted"."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from both_sides import BothSides

import minidocker

# A shell runs each line; status 0 means that it is possible. None of them does harm.
ATTEMPTS = {
    "compute": "test $((6 * 7)) = 42",
    "write to a file of its own in /tmp": "f=/tmp/of-its-own.$$ && echo x > $f && rm $f",
    "read a file of the caller's": "cat {secret}",
    "change a file of the caller's": "echo changed >> {secret}",
    "read a file outside /usr": "cat {script}",
    "see a variable of the caller's": 'test -n "$EXAMPLE_TOKEN"',
    "list the caller's home": "ls -A {home} | grep -q .",
    "see the caller's processes": "test -d /proc/{pid}/fd",
    "signal the caller": "kill -0 {pid}",
    "make a user namespace": "unshare --user true",
}


def main() -> int:
    os.environ["EXAMPLE_TOKEN"] = "of the caller's"
    sides = BothSides(__doc__, ("plain command", 'profile="untrusted"'))
    with tempfile.TemporaryDirectory(prefix="minidocker-") as directory:
        secret = Path(directory) / "secret"
        secret.write_text("of the caller's\n")
        places = {"secret": secret, "script": Path(__file__).resolve(), "home": Path.home()}
        places["pid"] = os.getpid()
        outside, inside = {}, {}
        for what, script in ATTEMPTS.items():
            words = ["sh", "-c", script.format(**places)]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            inside[what] = minidocker.run(words, profile="untrusted", **quiet).returncode == 0
            unchanged = secret.read_text() == "of the caller's\n"
            outside[what] = subprocess.run(words, check=False, **quiet).returncode == 0
            sides.row(what, *("yes" if able else "no" for able in (outside[what], inside[what])))
            if what.startswith("change"):
                sides.shows('the file is unchanged under profile="untrusted"', unchanged)

    allowed = list(ATTEMPTS)[:2]
    sides.shows("it can compute and use its own files", all(inside[what] for what in allowed))
    sides.shows(
        "it can do nothing else", not any(inside[what] for what in ATTEMPTS if what not in allowed)
    )
    sides.shows(
        "a plain command changes files of the caller", outside["change a file of the caller's"]
    )
    return sides.print()


if __name__ == "__main__":
    sys.exit(main())
