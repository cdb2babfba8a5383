"""Attempts to type into the caller's terminal: CVE-2017-5226, CVE-2019-7303 and later ones."""

import json
import os
import pty
import select
import sys
import time
from pathlib import Path

import pytest

from support.attack import IS_ROOT, PRELUDE, PROFILES, interpreter

pytestmark = pytest.mark.parametrize("profile", PROFILES)

# TIOCSTI puts a character into the terminal's input; TIOCLINUX pastes the selection of a console.
# The kernel reads only the lower 32 bits of the request.
INJECT = """
TIOCSTI, TIOCLINUX, TIOCSETD = 0x5412, 0x541c, 0x5423
letter, paste = ctypes.create_string_buffer(b"!"), ctypes.create_string_buffer(b"\\x03")
for junk in (0, 1 << 32, 0xdeadbeef << 32, 1 << 63):
    for fd in (0, 1, 2):
        attempt(f"TIOCSTI|{junk:#x}", call, "ioctl", fd, TIOCSTI | junk, letter)
        attempt(f"TIOCLINUX|{junk:#x}", call, "ioctl", fd, TIOCLINUX | junk, paste)
def steal():
    fcntl.ioctl(0, 0x540e, 1)
    call("ioctl", 0, TIOCSTI, letter)
attempt("steal", steal)
def by_name():
    fd = os.open("/dev/tty", os.O_RDWR)
    call("ioctl", fd, TIOCSTI, letter)
attempt("/dev/tty", by_name)
"""

# The caller runs in a session of its own; its standard input is that session's terminal.
CALLER = """
import json, subprocess, sys
import minidocker
words, options, shared = json.loads(sys.argv[1])
if shared:
    options["namespaces"] = minidocker.NamespaceOptions.all().without_pid()
if options is None:
    subprocess.run(words, stdin=0)
else:
    minidocker.run(words, stdin=0, **options)
"""


def typed(options, *, shared=False):
    """Return how many letters an attempt typed into its caller's terminal, and its output."""
    words = [interpreter(), "-I", "-S", "-c", PRELUDE + INJECT]
    reader, writer = os.pipe()
    pid, terminal = pty.fork()
    if pid == 0:
        os.dup2(writer, 1)
        argument = json.dumps([words, options, shared])
        os.execv(sys.executable, [sys.executable, "-c", CALLER, argument])
    os.close(writer)
    with open(reader) as pipe:
        output = pipe.read()
    # The terminal echoes its input to the other side.
    shown, deadline = b"", time.monotonic() + 5
    while select.select([terminal], [], [], 0.05)[0] and time.monotonic() < deadline:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        shown += piece
    os.waitpid(pid, 0)
    os.close(terminal)
    return shown.count(b"!"), output


def can_inject():
    switch = Path("/proc/sys/dev/tty/legacy_tiocsti")
    return IS_ROOT or not switch.exists() or switch.read_text().strip() == "1"


@pytest.mark.parametrize("init", [False, True])
def test_cve_2017_5226_2019_7303_nothing_is_typed_into_the_callers_terminal(profile, init):
    if can_inject():
        letters, output = typed(None)
        assert letters >= 9, f"the positive control: {output}"
        assert "escaped: TIOCSTI|0xdeadbeef00000000" in output
    letters, output = typed({"profile": profile, "init": init})
    assert letters == 0
    assert "escaped" not in output
    assert output.count("held: TIOCSTI") == 12
    assert "held: steal" in output


def test_nothing_is_typed_with_the_pid_namespace_shared_either(profile):
    letters, output = typed({"profile": profile}, shared=True)
    assert letters == 0
    assert "escaped" not in output
    assert "held: TIOCSTI" in output
