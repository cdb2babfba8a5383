"""Attempts to type into the caller's terminal: CVE-2017-5226, CVE-2019-7303 and what came after."""

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
# The kernel reads 32 bits of the request, whatever stands above them.
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

# The caller: in a session of its own, whose terminal is the standard input of all of this.
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
    """What an attempt has put into the input of its caller's terminal, and what it said."""
    words = [interpreter(), "-I", "-S", "-c", PRELUDE + INJECT]
    reader, writer = os.pipe()
    pid, terminal = pty.fork()
    if pid == 0:
        os.dup2(writer, 1)
        argument = json.dumps([words, options, shared])
        os.execv(sys.executable, [sys.executable, "-c", CALLER, argument])
    os.close(writer)
    with open(reader) as pipe:
        said = pipe.read()
    # With echo on, what is put into the input comes out on the other side.
    shown, deadline = b"", time.monotonic() + 5
    while select.select([terminal], [], [], 0.05)[0] and time.monotonic() < deadline:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        shown += piece
    os.waitpid(pid, 0)
    os.close(terminal)
    return shown.count(b"!"), said


def can_inject():
    switch = Path("/proc/sys/dev/tty/legacy_tiocsti")
    return IS_ROOT or not switch.exists() or switch.read_text().strip() == "1"


@pytest.mark.parametrize("init", [False, True])
def test_cve_2017_5226_2019_7303_nothing_is_typed_into_the_callers_terminal(profile, init):
    if can_inject():
        letters, said = typed(None)
        assert letters >= 9, f"the positive control: {said}"
        assert "escaped: TIOCSTI|0xdeadbeef00000000" in said
    letters, said = typed({"profile": profile, "init": init})
    assert letters == 0
    assert "escaped" not in said
    assert said.count("held: TIOCSTI") == 12
    assert "held: steal" in said


def test_not_even_with_the_pid_namespace_shared(profile):
    letters, said = typed({"profile": profile}, shared=True)
    assert letters == 0
    assert "escaped" not in said
    assert "held: TIOCSTI" in said
