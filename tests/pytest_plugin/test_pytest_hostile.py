"""Tests in containers that break the channel of their reports, or send their own messages."""

import time
import xml.etree.ElementTree as ET

import pytest

pytestmark = pytest.mark.plain(reason="the channel is the same for every user")

# What a test may replace, and still has its own report. Some are part of what makes the report.
REPLACED = """
    import builtins, json, os, pickle, select, signal, socket, struct, sys, time, traceback, pytest

    def breaks(*_, **__): raise RuntimeError("this must not be called")
    def nothing(*_, **__): return None

    NAMES = [
        (os, "write"), (os, "read"), (os, "close"), (os, "dup2"), (os, "fstat"), (os, "getpid"),
        (os, "set_blocking"), (os, "open"), (os, "kill"), (os, "_exit"), (os, "fork"),
        (json, "dumps"), (json, "loads"), (json.JSONEncoder, "encode"),
        (json.JSONEncoder, "iterencode"), (json.encoder, "c_make_encoder"),
        (json.encoder, "encode_basestring_ascii"), (pickle, "dumps"), (select, "poll"),
        (socket, "socket"), (struct, "pack"), (signal, "signal"), (signal, "setitimer"),
        (time, "time"), (time, "monotonic"), (time, "sleep"), (sys, "stdout"), (sys, "stderr"),
        (sys, "stdin"), (sys, "exit"), (builtins, "print"), (builtins, "open"), (builtins, "exit"),
    ]

    @pytest.mark.parametrize("number", range(len(NAMES)))
    def test_fails(number, monkeypatch):
        monkeypatch.setattr(*NAMES[number], [breaks, nothing, None][number % 3])
        assert 0, "the test's own failure"

    def test_replaces_builtins_that_reports_need():
        builtins.isinstance = builtins.len = builtins.getattr = nothing
    def test_has_no_modules(): sys.modules.clear(); assert 0
    """


def test_a_failing_test_has_a_report_whatever_it_has_replaced(runs):
    result = runs(REPLACED, "--minidocker")
    assert result.parseoutcomes() == {"failed": 33 + 2}
    result.stdout.fnmatch_lines_random(["E*the test's own failure"] * 33)
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_a_test_that_closes_or_leaves_its_channel_is_a_failure(runs):
    result = runs(
        """
        import atexit, ctypes, os, posix, signal, subprocess, sys, threading, time, pytest

        @pytest.fixture(params=["setup", "teardown"])
        def phase(request): return request.param

        def do(action):
            if action == "closes": os.closerange(3, 1000)
            if action == "duplicates":
                for number in range(3, 100): os.dup2(1, number)
            if action == "opens":
                os.closerange(3, 1000)
                for number in range(3, 100): os.open("/dev/null", os.O_RDWR)
            if action == "exits": os._exit(0)
            if action == "exits the C way": ctypes.CDLL(None)._exit(0)
            if action == "exits in a thread":
                threading.Thread(target=os._exit, args=(0,)).start(); time.sleep(60)
            if action == "executes": os.execv(sys.executable, [sys.executable, "-c", "pass"])
            if action == "is killed": os.kill(os.getpid(), 9)

        ACTIONS = ["closes", "duplicates", "opens", "exits", "exits the C way",
                   "exits in a thread", "executes", "is killed"]

        @pytest.fixture
        def broken(action, phase):
            if phase == "setup": do(action)
            yield
            if phase == "teardown": do(action)

        @pytest.mark.parametrize("action", ACTIONS)
        def test_in_fixtures(action, broken): pass
        @pytest.mark.parametrize("action", ACTIONS)
        def test_in_call(action): do(action)

        def test_at_exit(): atexit.register(os._exit, 3)
        @pytest.mark.minidocker(timeout=0.3)
        def test_stops(): os.kill(os.getpid(), signal.SIGSTOP)
        @pytest.mark.minidocker(timeout=0.3)
        def test_closes_and_stays(): os.closerange(3, 1000); time.sleep(100)
        def test_system_exit(): sys.exit(0)
        def test_other(): pass
        """,
        "--minidocker",
    )
    # In setup and teardown it is an error. A test whose teardown fails has passed before.
    assert result.parseoutcomes() == {"passed": 1 + 1 + 8, "errors": 8 * 2 + 1, "failed": 8 + 3}
    text = result.stdout.str()
    assert text.count("closed or replaced the descriptor of its reports during its call") == 3
    assert text.count("had not ended after 0.3 seconds") == 2
    assert text.count("during its setup, with exit status 0") == 4


def test_a_forked_process_that_returns_into_pytest_reports_nothing(runs):
    result = runs(
        """
        import os, pytest
        @pytest.fixture
        def forks():
            # The process that returns first is the forked one.
            if (pid := os.fork()): os.waitpid(pid, 0)
            yield
            if (pid := os.fork()): os.waitpid(pid, 0)

        def test_forks(forks):
            print("before")
            if (pid := os.fork()): os.waitpid(pid, 0)
            print("after")
        def test_fails_there():
            if (pid := os.fork()): os.waitpid(pid, 0)
            else: assert 0
        def test_exits_there():
            if (pid := os.fork()): assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
            else: os._exit(3)
        def test_leaves_the_report_to_it():
            if os.fork(): os._exit(0)
        """,
        "--minidocker",
        "--capture=sys",
    )
    assert result.parseoutcomes() == {"passed": 3, "failed": 1}
    assert result.stdout.str().count("before\nafter") == 1


# Functions with which a test sends messages of its own.
FORGE = """
    import copy, json, os, socket, stat, sys, time, pytest

    def send(data):
        for name in os.listdir("/proc/self/fd"):
            number = int(name)
            try:
                if stat.S_ISSOCK(os.fstat(number).st_mode): os.write(number, data)
            except OSError: pass

    def line(message): return json.dumps(message).encode() + b"\\n"

    REPORT = dict(nodeid="", when="call", outcome="passed", longrepr=None, sections=[],
                  user_properties=[], keywords={}, location=["a", 1, "b"], duration=0.0)
    REPORT["$report_type"] = "TestReport"
    PASSED = dict(phase="call", report=REPORT, raised=None)
    ENTRY = dict(type="ReprEntry", data=dict(lines=["E   no"], reprfuncargs=None,
                 reprlocals=None, reprfileloc=None, style="long"))
    TRACEBACK = dict(reprentries=[ENTRY], extraline=None, style="long")
    FAILURE = dict(reprcrash=None, reprtraceback=TRACEBACK, sections=[], chain=None)

    def changed(**changes):
        message = copy.deepcopy(PASSED)
        message["report"].update(changes)
        return message
    """


def test_a_malformed_message_is_a_failure_of_its_test_alone(runs):
    result = runs(
        FORGE
        + """
    NODE = object()  # stands for the right one
    GOOD = dict(nodeid=NODE)
    BAD = [
        changed(nodeid="another.py::test_one"), changed(nodeid=3), changed(**GOOD, when="setup"),
        changed(**GOOD, when="teardown"), changed(**GOOD, outcome="great"),
        changed(**GOOD, outcome="failed"), changed(**GOOD, outcome="skipped"),
        changed(**GOOD, outcome=["passed"]), changed(**GOOD, longrepr=5),
        changed(**GOOD, outcome="failed", longrepr={"reprcrash": 1, "reprtraceback": 2}),
        changed(**GOOD, outcome="failed",
                longrepr={**FAILURE, "reprtraceback": {**TRACEBACK, "reprentries": [{}]}}),
        changed(**GOOD, outcome="failed", longrepr={**FAILURE, "chain": [[1, 2, 3]]}),
        changed(**GOOD, sections=[["title"]]), changed(**GOOD, sections=[["title", 3]]),
        changed(**GOOD, sections="text"), changed(**GOOD, user_properties=[[{}, 1]]),
        changed(**GOOD, user_properties={"a": 1}), changed(**GOOD, keywords=["a"]),
        changed(**GOOD, wasxfail=[]), changed(**GOOD, extras=5), changed(**GOOD, extras=[{"a": 1}]),
        changed(**GOOD, **{"$report_type": "CollectReport"}),
        changed(**GOOD, **{"_report_type": "SubTestReport"}),
        {**changed(**GOOD), "phase": "setup"}, {**changed(**GOOD), "phase": "teardown"},
        {**changed(**GOOD), "phase": None}, {**changed(**GOOD), "raised": ["a", "b"]},
        {**changed(**GOOD), "raised": "text"}, {**changed(**GOOD), "more": 1},
        {**changed(**GOOD), "session": {"nosuch_attr": True}},
        {**changed(**GOOD), "session": {"shouldstop": [1]}},
        {**changed(**GOOD), "session": {"exitstatus": 0}},
        {**changed(**GOOD), "warnings": {"a": 1}}, {**changed(**GOOD), "warnings": [{}]},
        {**changed(**GOOD), "junitxml": 1}, {**changed(**GOOD), "junitxml": {"properties": [[1]]}},
        {"session": {"nosuch_attr": True}}, {"done": True}, {"exit": ["bye"]}, {"exit": "bye"},
        {"exit": ["bye", "0"]}, {"exit": ["bye", 0.0]}, {"exit": [3, 0]}, {"interrupt": 1},
        {"failed": ["a"]}, {"output": [["stdout"]]}, {"output": "text"}, {"subtest": REPORT},
        {"subtest": dict(REPORT, nodeid=NODE)}, {"subtest": 1}, {}, [], None, 3, "text",
        b"no JSON\\n", b"\\n", b"\\xff\\xfe{\\x00}\\x00\\n", b"\\xff\\n", b"\\x00" * 1000 + b"\\n",
        b'{"output": [' + b"[]," * 5000000 + b"0]}\\n", b'{"exit": ["\\xc2\\x9b", 3]}\\n',
        b'{"exit": ["a", 3], "exit": ["bye", 3]}\\n',
        b"[" * 1000000 + b"\\n", b'{"a":' * 100000 + b"\\n", b"9" * 10000 + b"\\n",
        b'{"exit": ["bye", NaN]}\\n', b'{"exit": ["bye", Infinity]}\\n',
        b'{"exit": ["bye", 1e999]}\\n', b'{"exit": ["bye", 99999999999999999999]}\\n',
        json.dumps({"exit": ["bye", 3]}).encode("utf-16") + b"\\n",
        json.dumps({"exit": ["bye", 3]}).encode("utf-32") + b"\\n",
    ]

    @pytest.mark.parametrize("number", range(len(BAD)))
    def test_forges(number, request):
        message = BAD[number]
        if isinstance(message, dict):
            for report in (message.get("report"), message.get("subtest")):
                if isinstance(report, dict) and report["nodeid"] is NODE:
                    report["nodeid"] = request.node.nodeid
        send(message if isinstance(message, bytes) else line(message))

    def test_other(): pass
    def test_count(): print("FORGED", len(BAD))
    """,
        "--minidocker",
        "--junitxml=junit.xml",
    )
    text = result.stdout.str()
    assert "INTERNALERROR" not in text + result.stderr.str()
    [forged] = [line.split()[1] for line in result.outlines if line.startswith("FORGED")]
    assert result.parseoutcomes() == {"passed": 2, "failed": int(forged)}
    assert text.count("the test sent malformed data during its call") >= int(forged)
    assert ET.parse(runs.pytester.path / "junit.xml").find("testsuite").get("tests") == str(
        int(forged) + 2
    )


def test_a_forged_report_counts_once_and_the_real_one_is_an_error(runs):
    result = runs(
        FORGE
        + """
    def test_forges(request):
        for _ in range(5): send(line(changed(nodeid=request.node.nodeid)))
        assert 0
    """,
        "--minidocker",
    )
    assert result.parseoutcomes() == {"passed": 1, "errors": 1}
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_test_cannot_write_to_the_channel_of_its_xdist_worker(runs):
    result = runs(
        """
        import os, stat, sys
        def test_writes_everywhere():
            for name in os.listdir("/proc/self/fd"):
                try:
                    mode = os.fstat(int(name)).st_mode
                    if int(name) > 2 and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
                        os.write(int(name), b"no message" * 100 + b"\\n")
                except OSError:
                    pass
        def test_other(): pass
        """,
        "--minidocker",
        "-n1",
        plugins=["xdist"],
    )
    assert result.parseoutcomes() == {"passed": 1, "failed": 1}
    assert "the test sent malformed data" in result.stdout.str()


@pytest.mark.parametrize("status", ["0", "256", "4"])
def test_the_end_of_a_run_that_a_test_asks_for_is_never_a_success(runs, status):
    result = runs(
        f"""
        import pytest
        def test_one(): pytest.exit("bye", {status})
        def test_two(): pass
        """,
        "--minidocker",
    )
    assert result.ret == (4 if status == "4" else pytest.ExitCode.INTERRUPTED)
    assert "bye" in result.stdout.str() + result.stderr.str()


def test_no_text_of_a_test_reaches_the_terminal_or_the_file_with_escapes(runs):
    result = runs(
        FORGE
        + """
    HARM = "\\x1b]0;title\\x07\\x1b[2J\\x9b5n\\x0e\\x08\\ud800\\ufffe\\x1b[31mred\\x1b[0m"

    def test_fails(record_property, record_testsuite_property, record_xml_attribute):
        record_property(HARM, HARM)
        print(HARM)
        record_testsuite_property(HARM, HARM)
        record_xml_attribute("good", HARM)
        pytest.fail(HARM)
    def test_skips(): pytest.skip(HARM)
    def test_xfails(): pytest.xfail(HARM)
    def test_warns(): __import__("warnings").warn(HARM)
    def test_forges(request):
        send(line({**changed(nodeid=request.node.nodeid), "junitxml":
            {"properties": [[HARM, HARM]], "attributes":
                {"a b='": HARM, "><": "x", "1": "x", "fine": HARM, "list": [1]}}}))
    def test_crashes(request):
        send(line({"output": [["stdout", HARM], [HARM, "x"]]})); os.kill(os.getpid(), 9)
    def test_ends(): raise BaseException(HARM)
    def test_last(): pytest.exit(HARM, 3)
    """,
        "--minidocker",
        "--junitxml=junit.xml",
        "-ojunit_family=xunit1",
    )
    text = result.stdout.str() + result.stderr.str()
    assert result.ret == 3
    for harm in ("\x1b]", "\x07", "\x1b[2J", "\x9b", "\x0e", "\x08", "\ud800", "\ufffe"):
        assert harm not in text
    assert r"\x1b]0;title\x07" in text
    # Colours stay.
    assert "\x1b[31mred\x1b[0m" in text
    suite = ET.parse(runs.pytester.path / "junit.xml").find("testsuite")
    assert suite.find("testcase[@name='test_fails']").get("good") is not None
    assert suite.find("testcase[@name='test_forges']").get("fine") is not None
    assert suite.find("testcase[@name='test_forges']").get("1") is None


FLOODS = {
    "subtests": """
        report = dict(REPORT, nodeid=request.node.nodeid)
        del report["$report_type"]
        report.update({"_report_type": "SubTestReport", "_subtest.context":
            {"msg": None, "kwargs": {}}})
        data = line({"subtest": report})
        """,
    "output": """
        data = line({"output": []}) * 500
        """,
    "no message": """
        data = b"x" * 4096
        """,
}


@pytest.mark.parametrize("kind", FLOODS)
def test_endless_messages_end_at_the_timeout_or_at_their_number(runs, kind):
    result = runs(
        FORGE
        + f"""
    import resource
    # Subtests are shown one by one, which takes long.
    TIMEOUT = 0.2 if {kind!r} == "subtests" else None

    @pytest.mark.minidocker(timeout=TIMEOUT)
    def test_floods(request):{FLOODS[kind]}
        while True: send(data)

    @pytest.mark.minidocker
    def test_other(): assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1 << 20
    """,
    )
    found = result.parseoutcomes()
    assert (found["passed"], found["failed"]) == (1, 1)
    text = result.stdout.str()
    reasons = {
        "subtests": "the test had not ended after 0.2 seconds",
        "output": "its container was ended. It sent more than 50000 messages",
        "no message": "its container was ended. A message has more than 33554432 bytes",
    }
    assert reasons[kind] in text


def test_output_and_properties_of_any_size_and_kind_are_reported(runs):
    runs.pytester.makeconftest(
        """
        def pytest_runtest_logreport(report):
            if report.when == "call":
                print("SIZE", sum(len(text) for _, text in report.sections))
                print("PROPERTIES", [value for _, value in report.user_properties])
        """
    )
    result = runs(
        """
        import os
        def test_writes_much(): print("y" * 5_000_000 + "<end>")
        def test_crashes(): os.write(1, b"z" * 20_000_000); os.kill(os.getpid(), 9)
        def test_records(record_property):
            values = [float("nan"), 10**30, ValueError(1), {1: {2: 3}}, b"bytes"]
            for value in values: record_property("name", value)
        def test_raises():
            class Odd(Exception):
                __module__ = None
                def __str__(self): raise ValueError
            raise Odd
        """,
        "--minidocker",
        "-rN",
        "--show-capture=no",
    )
    assert result.parseoutcomes() == {"passed": 2, "failed": 2}
    sizes = [int(line.split()[-1]) for line in result.outlines if "SIZE" in line]
    much, crash, *others = sizes
    assert 2_000_000 < much < 2_200_000
    assert 16_000_000 < crash < 17_000_000
    assert others == [0, 0]
    expected = ["nan", str(10**30), "1", {"1": {"2": 3}}, "b'bytes'"]
    assert f"PROPERTIES {expected}" in result.outlines


@pytest.mark.parametrize("phases", [["call"], ["call", "teardown"]])
def test_a_forged_early_answer_does_not_lengthen_the_timeout(runs, phases):
    started = time.monotonic()
    result = runs(
        FORGE
        + f"""
    @pytest.mark.minidocker(timeout=1)
    def test_forges(request):
        for phase in {phases!r}:
            send(line({{**changed(nodeid=request.node.nodeid, when=phase), "phase": phase}}))
        while True: send(line({{"output": []}})); time.sleep(0.01)
    """,
    )
    assert time.monotonic() - started < 30
    assert result.ret == (1 if len(phases) == 1 else 0)
    shown = result.stdout.str()
    assert "had not ended after" in shown
