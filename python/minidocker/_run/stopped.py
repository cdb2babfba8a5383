"""Whether a process is stopped, with all its threads."""

from __future__ import annotations

import contextlib
import os
import signal

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["is_stopped"]


def is_stopped(pid: int) -> bool:
    """Return whether a process executes nothing until it gets SIGCONT, or has ended.

    SIGSTOP stops a process only when the kernel schedules each of its threads the next time
    (``signal(7)``). Until then a thread may still end the system call that it waits in, for example
    take a byte from a terminal.

    A thread that waits for its vfork(2) child is in uninterruptible sleep (state D). If the child
    is stopped, the wait lasts until the child continues, and the SIGSTOP then takes effect before
    the thread executes another instruction.
    """
    threads = list(_threads(pid))
    asked = any(state in "Tt" or pending for state, pending in threads)
    return all(state in "TtZX" or (state == "D" and asked) for state, _ in threads)


def _threads(pid: int) -> Iterator[tuple[str, bool]]:
    """Yield the state of each thread, and whether SIGSTOP is pending for its process."""
    # It may end while it is read, or be hidden from this user (hidepid in proc(5)).
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(
                f"/proc/{pid}/task/{thread}/status", encoding="utf-8", errors="replace"
            ) as file:
                fields = dict(line.split(":", 1) for line in file)
            pending = int(fields["ShdPnd"], 16)
            yield fields["State"].split()[0], bool(pending >> (signal.SIGSTOP - 1) & 1)
