"""Run a test's function in a forked child, so that what it changes is changed there only."""

import os
import pickle
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from minidocker import linux
from minidocker.linux import CloneFlags

T = TypeVar("T")


def in_child(function: Callable[..., T], *arguments: object) -> T:
    """Call `function` in a forked child; give back its value, or raise its exception here.

    The child has one thread, whatever threads the test runner has. What is returned or raised
    comes back through pickle.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on: the runner has threads, of which the child needs none.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(reader)
        _answer(writer, function, *arguments)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not answer:
        raise AssertionError(f"the child gave no answer: {os.waitstatus_to_exitcode(status)}")
    raised, value = pickle.loads(answer)
    if raised:
        raise value
    result: T = value
    return result


def raised_by(function: Callable[..., object], *arguments: object) -> OSError:
    """Call `function` in a forked child, which has to raise an OSError; give back that."""
    try:
        value = in_child(function, *arguments)
    except OSError as error:
        return error
    raise AssertionError(f"no OSError was raised, but {value!r} came back")


def _answer(writer: int, function: Callable[..., Any], *arguments: object) -> NoReturn:
    try:
        # A child that hangs is ended by SIGALRM, and its test fails.
        signal.alarm(120)
        try:
            answer = pickle.dumps((False, function(*arguments)))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised in the parent
            answer = pickle.dumps((True, error))
        with open(writer, "wb") as pipe:
            pipe.write(answer)
    finally:
        # Nothing of the test runner may go on in the child.
        os._exit(0)


def unshare_as_root(flags: CloneFlags) -> None:
    """Make a user namespace, and what `flags` say, in this process, and become its root."""
    uid, gid = os.geteuid(), os.getegid()
    linux.unshare(CloneFlags.NEWUSER | flags)
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"0 {uid} 1")
    (own / "gid_map").write_text(f"0 {gid} 1")
