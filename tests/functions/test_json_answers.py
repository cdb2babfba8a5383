"""Answers as JSON: only strict JSON, in bounded memory, and no control of the terminal."""

import contextlib
import json
import sys
import tracemalloc

import pytest

import minidocker
from minidocker import CallFailed, CallResultError
from minidocker._functions import strict_json
from support import functions
from support.hostile import script

pytestmark = pytest.mark.usefixtures("template", "leaks")


def answer(payload, kind="JSON_VALUE"):
    """Return the value that the caller decodes from a payload."""
    code = script(f"send(message({kind}, payload)); os._exit(0)")
    return minidocker.isolated(result="json")(exec)(code, {"payload": payload})


@pytest.mark.parametrize(
    "payload",
    [
        b"NaN", b"[-Infinity]", b'{"a": Infinity}', b"1e999", b"[-1e400]",
        "1".encode("utf-16"), "1".encode("utf-32"), b"\xef\xbb\xbf1", '"\xe9"'.encode(),
        '"\xe9"'.encode("latin-1"), b'{"a": 1, "a": 2}', b'[{"\\u0061": 1, "a": 2}]',
        b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b"1" * 5000,
        b"", b"5 5", b"'a'", b"[1,]", b'"\x1b"', b'"\n"', b"\0", b"{1: 2}",
    ],
    ids=lambda payload: repr(payload[:12]),
)  # fmt: skip
def test_what_is_not_strict_json_is_refused(payload):
    with pytest.raises(CallResultError, match=r"^the answer is not JSON: ") as caught:
        answer(payload)
    assert str(caught.value).isprintable()


def test_a_program_without_a_limit_of_digits_keeps_that_of_the_answer():
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        with pytest.raises(CallResultError, match="more than 4300 digits"):
            answer(b"1" * 4301)
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize(
    "value",
    [float("nan"), [float("inf")], {1: 1, "1": 2}, {2, 3}, 10**5000],
    ids=["nan", "infinite", "twice", "set", "long"],
)
def test_a_value_that_is_not_json_is_refused(value):
    with pytest.raises(CallResultError, match=r"is not JSON"):
        minidocker.isolated(result="json")(lambda: value)()


@pytest.mark.parametrize(
    "value",
    [
        None, "\u20ac \U0001f600 \x1b \ud800", [1.5, -0.0, 10**400], {"a": [{}, []], "": None},
        ',[{:"\\"' * 1000,
    ],
    ids=["null", "text", "numbers", "nested", "marks"],
)  # fmt: skip
def test_every_value_of_json_comes_back(value):
    assert minidocker.isolated(result="json")(lambda: value)() == value


@pytest.mark.parametrize(
    "malformed", [b"5", b"[]", b'["a", "b"]', b'["a", "b", 5]', b'[null, "b", "c"]', b"{}"]
)
def test_a_malformed_exception_is_refused(malformed):
    with pytest.raises(CallResultError, match="malformed"):
        answer(malformed, "JSON_RAISED")


# --- memory --------------------------------------------------------------------------------------

MIB = 1 << 20


@pytest.mark.parametrize(
    ("piece", "frame"),
    [
        (b"[],", b"[%s[]]"), (b"{},", b"[%s{}]"), (b'{"a":1},', b"[%s0]"), (b"1,", b"[%s1]"),
        (b"1.5,", b"[%s1]"), (b'"",', b'[%s""]'), (b"1000,", b"[%s1]"), (b"a", b'"%s"'),
        (b"\\ud83d\\ude00", b'"%s"'), (b"a", b'"%s\\ud83d\\ude00"'), (b",[{", b'"%s"'),
    ],
)  # fmt: skip
def test_a_value_costs_a_few_times_the_limit_at_most(piece, frame):
    limit = 4 * MIB
    text = frame % (piece * ((limit - 40) // len(piece)))
    assert limit - 100 < len(text) <= limit
    tracemalloc.start()
    value = None
    try:
        # A value that would be larger is refused.
        with contextlib.suppress(ValueError):
            value = strict_json.loads(text, limit=limit)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * limit + 16 * MIB
    assert held <= (0 if value is None else strict_json.EXPANSION * limit) + MIB


@pytest.mark.parametrize("piece", [b"[],", b'{"a":1},', b"1.5,", b'"a,b",'])
def test_an_ordinary_value_far_below_the_limit_is_accepted(piece):
    text = b"[" + piece * 10_000 + b"0]"
    assert len(strict_json.loads(text, limit=30 * len(text))) == 10_001


def test_text_full_of_structure_is_no_structure():
    text = json.dumps(',:[{\\"' * 100_000)
    assert strict_json.loads(text.encode(), limit=len(text)) == ',:[{\\"' * 100_000


# --- the terminal --------------------------------------------------------------------------------

ESCAPES = "\x1b]0;title\x07\x1b[31m\r\x08\x7f\x9b1m\u202e\u2066\u2028\ud800\0"


def _raise_named():
    marks = ESCAPES.replace("\ud800", "").replace("\0", "")
    named = type(f"Bad{marks}\n", (Exception,), {"__module__": f"mod{marks}"})
    error = named(f"two\nlines\t{ESCAPES}\xa0caf\xe9")
    error.add_note(f"a note {ESCAPES}")
    raise error


def test_a_failed_call_cannot_control_the_terminal():
    with pytest.raises(CallFailed) as caught:
        minidocker.isolated(result="json")(_raise_named)()
    error = caught.value
    for text in (str(error), error.message, error.type, str(error.__cause__)):
        assert text.replace("\n", "").replace("\t", "").replace("\xa0", " ").isprintable()
    assert "\n" not in error.type
    assert "mod\\x1b]0;title\\x07" in error.type
    assert error.message.startswith("two\nlines\t\\x1b]0;title\\x07\\x1b[31m\\x0d\\x08\\x7f\\x9b1m")
    assert error.message.endswith("\\u202e\\u2066\\u2028\\ud800\\x00\xa0caf\xe9")
    assert "a note \\x1b]0;title" in str(error.__cause__)


def test_a_remote_traceback_cannot_control_the_terminal():
    with pytest.raises(functions.OwnError) as caught:
        minidocker.call(functions.fail, ESCAPES)
    assert "\\x1b]0;title" in str(caught.value.__cause__)
    assert "\x1b" not in str(caught.value.__cause__)


def test_the_reason_of_a_missing_value_cannot_control_the_terminal():
    class Unpicklable:
        def __reduce__(self):
            raise ValueError(ESCAPES)

    Unpicklable.__qualname__ = ESCAPES
    with pytest.raises(CallResultError) as caught:
        minidocker.call(Unpicklable)
    assert str(caught.value).isprintable()


def test_a_long_message_is_cut():
    long = "x" * 10_000_000
    with pytest.raises(CallFailed) as caught:
        minidocker.isolated(result="json")(functions.fail)(long)
    assert len(str(caught.value)) < 100_000
    assert str(caught.value).endswith(" more characters)")
    assert len(str(caught.value.__cause__)) < 100_000
