"""Run a test's function in a forked child, so that its side effects stay there."""

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
    """Call `function` in a forked child; return its value, or raise its exception here.

    The child has one thread, even if the test runner has more. The value or exception is pickled.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 and later warn that the runner has threads; the child does not need them.
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
    """Call `function` in a forked child, and return the OSError that it must raise."""
    try:
        value = in_child(function, *arguments)
    except OSError as error:
        return error
    raise AssertionError(f"no OSError was raised, but {value!r} came back")


def _answer(writer: int, function: Callable[..., Any], *arguments: object) -> NoReturn:
    try:
        # SIGALRM ends a child that hangs, and its test fails.
        signal.alarm(120)
        try:
            answer = pickle.dumps((False, function(*arguments)))
        except BaseException as error:  # noqa: BLE001 - the parent raises it again
            answer = pickle.dumps((True, error))
        with open(writer, "wb") as pipe:
            pipe.write(answer)
    finally:
        # The child must not run the test runner's own code.
        os._exit(0)


def unshare_as_root(flags: CloneFlags) -> None:
    """Unshare a user namespace and the namespaces in `flags`, and become root there."""
    uid, gid = os.geteuid(), os.getegid()
    linux.unshare(CloneFlags.NEWUSER | flags)
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"0 {uid} 1")
    (own / "gid_map").write_text(f"0 {gid} 1")
