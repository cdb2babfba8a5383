"""Timeouts: every public one is checked here, and every wait takes its length from here."""

from __future__ import annotations

import math
import select
import time

from minidocker._errors import SpecError
from minidocker._unpatched import LONGEST_POLL, LONGEST_TIMEOUT, Poll

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LONGEST_POLL", "deadline_after", "earlier", "is_ready", "milliseconds_until", "seconds"]


def seconds(timeout: Any, *, option: str = "timeout") -> float | None:
    """Return a timeout in seconds as a float, or None for no limit.

    An infinite timeout, and one of more than a hundred years, is no limit. One of zero or less has
    expired, as in `subprocess`.

    Args:
        timeout: a number of seconds, or None.
        option: the name of the option, for the error.

    Raises:
        SpecError: it is not a number.
    """
    if timeout is None:
        return None
    try:
        # Unlike float(), this refuses text.
        is_number = not (isinstance(timeout, bool) or math.isnan(timeout))
    except TypeError:
        is_number = False
    except OverflowError:
        # An int that no float can hold.
        return None if timeout > 0 else -math.inf
    if not is_number:
        reason = "give a number of seconds, or None for no limit"
        raise SpecError(reason, option=option, value=timeout)
    number = float(timeout)
    return None if number > LONGEST_TIMEOUT else number


def deadline_after(timeout: float | None, *, since: float | None = None) -> float | None:
    """Return the time of `time.monotonic` at which a timeout expires; None for no limit.

    Args:
        timeout: the result of `seconds`.
        since: the time when it begins; by default now.
    """
    if timeout is None:
        return None
    return (time.monotonic() if since is None else since) + timeout


def earlier(deadline: float | None, wait: float) -> float:
    """Return a deadline, or the time after ``wait`` seconds if that is earlier."""
    soon = time.monotonic() + wait
    return soon if deadline is None else min(deadline, soon)


def milliseconds_until(deadline: float | None) -> int | None:
    """Return the argument of poll(2) that waits for a deadline, or for a part of the time.

    The caller looks at the clock after each wait, since the deadline may be later than poll(2) can
    wait.
    """
    if deadline is None:
        return None
    # Round up, or a loop would spin during the last fraction of a millisecond.
    left = max(0.0, (deadline - time.monotonic()) * 1000)
    return math.ceil(min(left, LONGEST_POLL))


def is_ready(fd: int, deadline: float | None, events: int = select.POLLIN) -> bool:
    """Wait until a descriptor is ready; return False if the deadline comes first.

    Args:
        fd: the descriptor.
        deadline: the result of `deadline_after`.
        events: the events of poll(2) that it is ready for.
    """
    poll = Poll()
    poll.register(fd, events)
    while not poll.poll(milliseconds_until(deadline)):
        if deadline is not None and time.monotonic() >= deadline:
            return False
    return True
