"""The output of functions in containers, and the results of untrusted code."""

import contextlib
import io
import os
import pickle
import struct
import subprocess
import time

import pytest

import minidocker
from minidocker import call, isolated
from support import functions

METHODS = ["fork", "spawn"]
both_methods = pytest.mark.parametrize("method", METHODS)

pytestmark = pytest.mark.usefixtures("template")


# --- output --------------------------------------------------------------------------------------


@both_methods
def test_the_output_of_python_c_code_and_commands_is_captured(leaks, capfd, method):
    function = isolated(method=method, capture_output=True, text=True)(functions.write_to_both)
    done = function.run()
    assert done.value == 5
    assert sorted(done.stdout.splitlines()) == [
        "from a command",
        "to Python's stdout",
        "to descriptor 1",
    ]
    assert done.stderr == "to Python's stderr\n"
    assert capfd.readouterr() == ("", "")


@both_methods
def test_much_output_does_not_block(leaks, method):
    done = isolated(method=method, capture_output=True)(functions.write_much).run(3 << 20)
    assert (len(done.stdout), len(done.stderr)) == (3 << 20, 3 << 20)
    assert done.value == 3 << 20


@both_methods
def test_without_capture_a_function_writes_to_the_callers_output(capfd, method):
    # capfd has replaced the descriptors since the template was started.
    if method == "fork":
        call(os.write, 1, b"seen\n")
        assert capfd.readouterr().out == "seen\n"
    assert isolated(method=method)(functions.add).run(1).stdout is None


def test_a_grandchild_that_holds_the_pipe_does_not_hold_up_the_caller(leaks):
    def leave_behind():
        subprocess.Popen(["sleep", "60"])
        print("done")

    started = time.monotonic()
    assert isolated(capture_output=True)(leave_behind).run().stdout == b"done\n"
    assert time.monotonic() - started < 30


def test_run_reports_the_usage():
    def work():
        deadline = time.process_time() + 0.3
        block = bytearray(50 << 20)
        while time.process_time() < deadline:
            pass
        return len(block)

    usage = isolated()(work).run().usage
    assert usage.wall >= 0.3
    assert usage.user + usage.system >= 0.25
    assert usage.peak >= 50 << 20


# --- untrusted code ------------------------------------------------------------------------------


@both_methods
def test_json_brings_back_a_value(leaks, method):
    value = {"a": [1, 2.5, None, "ü"]}
    add = isolated(method=method, result="json")(functions.add)
    assert add([value], [True], more=[None]) == [value, True, None]


@both_methods
def test_json_brings_an_exception_back_as_text(leaks, method):
    with pytest.raises(minidocker.CallFailed, match="OwnError: why") as caught:
        isolated(method=method, result="json")(functions.fail)("why")
    assert caught.value.type == "support.functions.OwnError"
    assert caught.value.message == "why"
    assert "raise OwnError" in str(caught.value.__cause__)


def test_a_value_that_is_not_json_is_named():
    with pytest.raises(minidocker.CallResultError, match="of type set, is not JSON"):
        isolated(result="json")(lambda: {1})()


class Evil:
    def __reduce__(self):
        return os.putenv, ("MINIDOCKER_EVIL", "1")


def forge(kind, payload):
    """Send a forged message to the caller, as untrusted code may."""
    message = struct.pack("<BQ", kind, len(payload)) + payload
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                os.write(int(name), message)
        except OSError:
            continue
    os._exit(0)


@pytest.mark.parametrize("kind", range(10))
def test_json_never_unpickles_a_message(kind):
    with pytest.raises(minidocker.CallError):
        isolated(result="json")(forge)(kind, pickle.dumps(Evil()))
    assert "MINIDOCKER_EVIL" not in os.environ


NOT_JSON = [b"", b"[" * 100_000, b'"\xff"', b"9" * 5000]
NOT_AN_EXCEPTION = [b"{}", b"[1,2,3]", b'["a", "b"]']
SHAPES = [(kind, payload) for kind in (3, 4, 5) for payload in NOT_JSON]
SHAPES += [(5, payload) for payload in NOT_AN_EXCEPTION]
SHAPES += [(3, payload) for payload in NOT_AN_EXCEPTION[:2]]


@pytest.mark.parametrize(("kind", "payload"), SHAPES)
def test_json_of_the_wrong_shape_is_refused(kind, payload):
    with pytest.raises(minidocker.CallResultError):
        isolated(result="json")(forge)(kind, payload)


@both_methods
def test_a_result_that_is_too_large_is_refused_and_the_container_ended(leaks, method):
    limited = isolated(method=method, result="json", result_limit=1000)
    assert limited(functions.add)("x" * 900, "", more="") == "x" * 900
    with pytest.raises(minidocker.CallResultError, match="result_limit allows 1000"):
        limited(functions.add)("x" * 1000, "", more="")


def test_output_that_is_too_large_is_refused(leaks):
    limited = isolated(capture_output=True, result_limit=1000)
    with pytest.raises(
        minidocker.CallResultError, match=r"wrote more than .* allows: 1000 bytes"
    ) as caught:
        limited(functions.write_much)(100_000)
    assert len(caught.value.stdout) <= 1000
    assert len(caught.value.stderr) <= 1000


@both_methods
def test_output_goes_to_a_stream_that_is_no_file(leaks, method):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert isolated(method=method)(functions.write_to_both)() == 5
    assert out.getvalue() == "to Python's stdout\nto descriptor 1\nfrom a command\n"
    assert err.getvalue() == "to Python's stderr\n"


@both_methods
def test_output_before_a_sigkill_is_captured(leaks, method):
    code = "import os\nprint('x')\nos.kill(os.getpid(), 9)"
    with pytest.raises(minidocker.CallKilled) as caught:
        isolated(method=method, capture_output=True, text=True)(exec)(code, {})
    assert caught.value.stdout == "x\n"
