"""Code that attacks the channel of the function that runs it.

The scripts are for `exec`, which every interpreter has: an untrusted container cannot import this
module.
"""

from minidocker._functions import messages

_PRELUDE = f"""
import os, signal, struct, sys, threading, time

frame = sys._getframe()
while "channel" not in frame.f_locals:
    frame = frame.f_back
channel = frame.f_locals["channel"]


def send(data):
    while data:
        data = data[os.write(channel, data):]


def message(kind, payload, length=None):
    return struct.pack("<BQ", kind, len(payload) if length is None else length) + payload


VALUE, JSON_VALUE = {messages.VALUE}, {messages.JSON_VALUE}
JSON_RAISED, INITIALIZED = {messages.JSON_RAISED}, {messages.INITIALIZED}
TASK = {messages.TASK}
"""


def script(code: str, *, as_json: bool = True) -> str:
    """Return a script that has `send`, `message` and `answer`, a complete answer: 5."""
    answer = "(JSON_VALUE, b'5')" if as_json else "(VALUE, __import__('pickle').dumps(5))"
    return f"{_PRELUDE}\nanswer = message(*{answer})\n{code}"
