"""The objects that a cell displays in a copy of the notebook's process, sent as lines of JSON."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import sys
import threading
from typing import TYPE_CHECKING, Any

from minidocker._errors import CallResultError
from minidocker._fd import available, socket_pair
from minidocker._functions import strict_json

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from minidocker._jupyter.pump import Output

LARGEST = 64 * 2**20
"""The maximum size of a displayed object as JSON, in bytes."""

_CHUNK = 1 << 16
_KINDS = {"data": dict, "metadata": dict, "transient": dict, "update": bool}


class Displays:
    """The channel for displayed objects; its reading end is a source for `pump`.

    The copy waits until each object is shown, which keeps text and pictures in their order.

    Args:
        shell: the notebook.
        texts: the copy's outputs, which are shown up to each object first.
    """

    def __init__(self, shell: InteractiveShell, texts: list[Output]) -> None:
        self._shell = shell
        self._texts = texts
        self._ours, self._theirs = socket_pair()
        self._ours.setblocking(False)
        self.reader = self._ours.fileno()
        self._pending = bytearray()
        self._sending = threading.Lock()

    def receive(self) -> bool:
        """Show the pending objects; return False if there are none.

        Raises:
            CallResultError: a message is malformed or too large.
        """
        try:
            data = self._ours.recv(_CHUNK)
        except (BlockingIOError, ConnectionResetError):
            return False
        first, *others = data.split(b"\n")
        self._pending += first
        for other in others:
            self._show(self._pending)
            self._pending = bytearray(other)
        if len(self._pending) > LARGEST:
            raise CallResultError(_too_large(f"more than {LARGEST}"))
        return bool(data)

    def _show(self, line: bytearray) -> None:
        message = _decode(line)
        for text in self._texts:
            text.drain()
        self._shell.display_pub.publish(**message)
        with contextlib.suppress(OSError):
            # The copy may have ended, or does not read.
            self._ours.send(b"\n")

    def drain(self) -> None:
        """Show the objects that are pending now.

        Raises:
            CallResultError: a message is malformed or too large.
        """
        for _ in range(available(self.reader) // _CHUNK + 1):
            if not self.receive():
                break

    def keep_copys_end(self) -> None:
        """Close the notebook's end, in the copy."""
        self._ours.close()

    def send(self, message: dict[str, Any]) -> None:
        """Send an object from the copy, and wait until it is shown.

        Raises:
            CallResultError: the object is too large.
        """
        line = json.dumps(_finite(message), default=_encode).encode()
        if len(line) > LARGEST:
            raise CallResultError(_too_large(str(len(line))))
        with self._sending:
            sys.stdout.flush()
            sys.stderr.flush()
            self._theirs.sendall(line + b"\n")
            self._theirs.recv(1)

    def close_writer(self) -> None:
        """Close this process's descriptor of the copy's end."""
        self._theirs.close()

    def close(self) -> None:
        """Close both ends."""
        self._theirs.close()
        self._ours.close()


def _too_large(size: str) -> str:
    return (
        f"a displayed object has {size} bytes as JSON, but a container may send {LARGEST}: display "
        "a smaller one"
    )


def _decode(line: bytearray) -> dict[str, Any]:
    """Return the arguments of ``publish`` from a message of the copy, which may be hostile."""
    try:
        message = strict_json.loads(line, limit=LARGEST)
    except (ValueError, RecursionError):
        message = None
    if (
        not isinstance(message, dict)
        or message.keys() != _KINDS.keys()
        or not all(type(message[name]) is kind for name, kind in _KINDS.items())
    ):
        raise CallResultError(
            "the message of a displayed object is malformed: other code inside wrote to the channel"
        )
    return message


def _encode(value: object) -> str:
    # Notebooks store pictures in base64.
    return base64.b64encode(value).decode() if isinstance(value, bytes) else repr(value)


def _finite(value: Any) -> Any:
    """Return a value with the text of each number that JSON lacks, as Jupyter shows it."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
