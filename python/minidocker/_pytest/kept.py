"""Functions as they were when pytest loaded the plugin, for use while tests run.

A test may replace `os.write` or `time.monotonic`, and plugins that fake files or clocks replace
such functions in every module that has imported them. They do not look into classes.
"""

from __future__ import annotations

import _socket
import json.encoder
import os
import select
import signal
import time

__all__ = ["Kept"]


class Kept:
    """The functions that must work whatever a test has replaced. Each is built in."""

    close = os.close
    dup2 = os.dup2
    exit_process = os._exit
    fstat = os.fstat
    ftruncate = os.ftruncate
    getpid = os.getpid
    monotonic = time.monotonic
    open = os.open
    poll = select.poll
    quote = json.encoder.encode_basestring_ascii
    read = os.read
    set_blocking = os.set_blocking
    setitimer = signal.setitimer
    socket = _socket.socket
    write = os.write
