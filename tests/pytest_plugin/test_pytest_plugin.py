"""Tests in containers: same reports as without one, and what runs inside or outside."""

import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from support.pytest_runs import same

# Every outcome, phase and kind of test of pytest, each with some output.
ALL_KINDS = """
    import logging
    import sys
    import unittest
    import warnings

    import pytest

    log = logging.getLogger("log")

    @pytest.fixture(scope="session", autouse=True)
    def session_wide():
        print("session set up")
        yield "session"
        print("session torn down")
        log.warning("session is torn down")

    @pytest.fixture(scope="module", params=["one", "two"])
    def module_wide(request):
        print("module set up", request.param)
        yield request.param
        print("module torn down", request.param)

    @pytest.fixture
    def own(tmp_path):
        print("own set up")
        log.warning("own is logged")
        (tmp_path / "file").write_text("text")
        yield tmp_path
        print("own torn down")

    @pytest.fixture
    def breaks():
        raise RuntimeError("the fixture breaks")

    @pytest.fixture
    def breaks_later():
        yield
        raise RuntimeError("the fixture breaks later")

    @pytest.fixture(scope="module")
    def module_breaks():
        print("the module's fixture breaks")
        raise RuntimeError("broken for the module")

    def test_passes(own, session_wide):
        print("written")
        print("written to stderr", file=sys.stderr)
        assert (own / "file").read_text() == "text"

    def test_compares(own):
        print("written before")
        log.error("logged before")
        mapping = {"a": 1, "b": [1, 2, 3]}
        assert mapping == {"a": 1, "b": [1, 2, 4]}, "they differ"

    def test_chains():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    def test_with_module_fixture(module_wide): assert module_wide in ("one", "two")
    def test_with_both(module_wide, own): assert own.exists()
    def test_setup_breaks(breaks): pass
    def test_teardown_breaks(own, breaks_later): print("fine so far")
    def test_fails_twice(breaks_later): assert False
    def test_module_breaks(module_breaks): pass
    def test_module_is_still_broken(module_breaks): pass
    def test_unknown_fixture(no_such_fixture): pass

    @pytest.mark.parametrize("number", [1, 2, pytest.param(3, marks=pytest.mark.xfail), 4])
    @pytest.mark.parametrize("text", ["ä", "b"])
    def test_parametrized(number, text): assert number < 3

    @pytest.mark.skip(reason="not now")
    def test_marked_skip(): pass
    @pytest.mark.skipif("sys.platform == 'linux'", reason="not here")
    def test_marked_skipif(): pass
    def test_skips(): pytest.skip("not like this")
    def test_needs(): pytest.importorskip("no_such_module")
    @pytest.mark.xfail(reason="known")
    def test_xfails(): assert 0
    @pytest.mark.xfail(reason="thought to be known", strict=True)
    def test_xpasses(): pass
    @pytest.mark.xfail(reason="another", raises=KeyError)
    def test_xfails_otherwise(): raise ValueError
    def test_xfails_itself(): pytest.xfail("found out")
    @pytest.mark.xfail(run=False, reason="never run")
    def test_not_run(): raise SystemExit
    def test_fails_plainly(): pytest.fail("because", pytrace=False)
    def test_exits_like_a_script(): sys.exit("a message")

    def test_warns():
        warnings.warn("be careful")
        warnings.warn("it is old", DeprecationWarning)
        with pytest.warns(UserWarning, match="expected"):
            warnings.warn("expected")
    @pytest.mark.filterwarnings("error")
    def test_warning_is_error(): warnings.warn("too much")

    def test_capsys(capsys):
        print("to capsys")
        assert capsys.readouterr().out == "to capsys\\n"
        print("left over")
        assert False
    def test_capfd(capfd):
        import subprocess
        subprocess.run(["echo", "from a process"], check=True)
        assert capfd.readouterr().out == "from a process\\n"
    def test_caplog(caplog, own):
        with caplog.at_level("DEBUG"):
            log.debug("detail")
        assert caplog.messages == ["detail"]
        assert [r.message for r in caplog.get_records("setup")] == ["own is logged"]
        assert False
    def test_properties(record_property, record_testsuite_property, record_xml_attribute):
        record_property("key", "value")
        record_testsuite_property("suite key", 5)
        record_xml_attribute("assertions", "3")
    def test_subtests(subtests):
        for number in range(3):
            with subtests.test("number", number=number):
                print("subtest", number)
                assert number != 1
    def test_undecodable(): sys.stdout.buffer.write(b"\\xff\\x00\\n"); assert 0
    def test_monkeypatched(monkeypatch): monkeypatch.setattr(sys, "argv", []); assert not sys.argv

    class TestClass:
        @pytest.fixture(scope="class", autouse=True)
        def class_wide(self, request): request.cls.value = 7; yield; print("class torn down")
        def setup_method(self): self.mine = 1
        def test_sees_both(self): assert (self.value, self.mine) == (7, 1)
        def test_fails(self): assert self.value == self.mine

    class TestUnit(unittest.TestCase):
        @classmethod
        def setUpClass(cls): print("class set up"); cls.shared = [1]
        def setUp(self): self.addCleanup(print, "cleaned up")
        def test_sees(self): self.assertEqual(self.shared, [1])
        def test_differs(self): self.assertEqual([1], [2])
        def test_skips(self): self.skipTest("not this one")
        @unittest.expectedFailure
        def test_expected(self): self.fail("as expected")

    def doctested():
        '''
        >>> doctested() + 1
        43
        >>> doctested()
        41
        '''
        return 42

    def test_last(own): print("the last one"); assert 0
"""

VERBOSE = ("-p", "no:faulthandler", "--doctest-modules", "--durations=0", "--durations-min=0", "-v")
VERBOSE += ("-o", "junit_family=xunit1")


def test_a_marked_test_runs_in_a_container_and_its_neighbours_do_not(runs):
    result = runs(
        """
        import os, socket, pytest
        HOST = socket.gethostname()

        @pytest.mark.minidocker(hostname="lab")
        def test_inside():
            assert socket.gethostname() == "lab"
            assert os.getpid() == 2
            assert [name for _, name in socket.if_nameindex()] == ["lo"]
            socket.sethostname("changed")
            os.environ["CHANGED"] = "yes"

        def test_outside():
            assert socket.gethostname() == HOST
            assert os.getpid() != 2
            assert "CHANGED" not in os.environ

        @pytest.mark.minidocker(hostname="outer", domainname="example")
        class TestMarked:
            @pytest.mark.minidocker(hostname="inner")
            def test_the_closest_marker_wins_option_by_option(self):
                assert os.uname().nodename == "inner"
                with open("/proc/sys/kernel/domainname") as file:
                    assert file.read() == "example\\n"
        """
    )
    assert result.parseoutcomes() == {"passed": 3}


@pytest.mark.smoke
@pytest.mark.needs("devices")
@pytest.mark.needs("hostname")
def test_the_option_runs_every_test_in_a_container(runs):
    result = runs(
        """
        import os, pytest
        def is_alone():
            pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
            return pids == {1, os.getpid()} and os.getppid() == 1
        def test_one(): assert is_alone()
        @pytest.mark.minidocker(hostname="lab")
        def test_two(): assert is_alone() and os.uname().nodename == "lab"
        """,
        "--minidocker",
    )
    assert result.parseoutcomes() == {"passed": 2}


def test_a_suite_has_the_same_report_inside_as_outside(runs):
    results = [
        runs(ALL_KINDS, *VERBOSE, f"--junitxml=junit{number}.xml", *args)
        for number, args in enumerate([(), ("--minidocker",)])
    ]
    without, within = (same(result.stdout.str()) for result in results)
    assert within.replace("junit1", "junit0") == without
    assert results[0].ret == results[1].ret == pytest.ExitCode.TESTS_FAILED
    without, within = (
        same(Path(runs.pytester.path, f"junit{number}.xml").read_text()) for number in (0, 1)
    )
    assert within == without
    # Both reports are complete.
    found = results[1].parseoutcomes()
    assert found["failed"] > 15
    assert found["xfailed"] > 5
    suite = ET.parse(Path(runs.pytester.path, "junit1.xml")).find("testsuite")
    assert suite.find("properties/property").get("name") == "suite key"
    assert suite.find("testcase[@name='test_properties']").get("assertions") == "3"


@pytest.mark.parametrize("capture", ["sys", "no", "tee-sys"])
def test_the_report_is_the_same_with_every_way_of_capturing(runs, capture):
    source = """
        import os, sys, pytest
        @pytest.fixture(scope="module")
        def shared(): print("shared is set up"); yield; print("shared is torn down")
        @pytest.fixture
        def own(): print("own is set up"); yield; print("own is torn down")
        def test_one(shared, own): print("one is written"); os.write(1, b"to the descriptor\\n")
        def test_two(shared): print("two is written", file=sys.stderr); assert 0
        """
    without, within = (
        runs(source, f"--capture={capture}", *args) for args in ((), ("--minidocker",))
    )
    assert same(within.stdout.str()) == same(without.stdout.str())
    assert "own is torn down" in within.stdout.str()
    assert same(within.stderr.str()) == same(without.stderr.str())


def test_fixtures_of_a_wider_scope_are_set_up_and_torn_down_outside_once(runs):
    result = runs(
        """
        import os, pytest
        EVENTS = os.path.join(os.path.dirname(__file__), "events")

        def note(event):
            with open(EVENTS, "a") as file:
                print(event, "inside" if os.getpid() == 2 else "outside", file=file)

        def fixture(scope, *names):
            def function():
                note(f"+{scope}")
                yield scope
                note(f"-{scope}")
            return pytest.fixture(scope=scope, name=f"{scope}_wide")(function)

        one, two, three = fixture("session"), fixture("module"), fixture("class")
        four = fixture("function")

        @pytest.mark.minidocker
        class TestClass:
            def test_one(self, function_wide, class_wide, module_wide, session_wide): note("one")
            def test_two(self, function_wide, class_wide): note("two")
            def test_asks_late(self, request):
                # Set up inside, so torn down inside.
                assert request.getfixturevalue("function_wide") == "function"

        @pytest.fixture(scope="module")
        def late(): note("+late"); yield; note("-late")

        @pytest.mark.minidocker
        def test_asks_late_for_the_module(request): request.getfixturevalue("late")

        def test_is_outside(late): note("outside")
        """
    )
    assert result.parseoutcomes() == {"passed": 5}
    assert Path(runs.pytester.path, "events").read_text().splitlines() == [
        "+session outside",
        "+module outside",
        "+class outside",
        "+function inside",
        "one inside",
        "-function inside",
        "+function inside",
        "two inside",
        "-function inside",
        "+function inside",
        "-function inside",
        "-class outside",
        "+late inside",
        "-late inside",
        "+late outside",
        "outside outside",
        "-late outside",
        "-module outside",
        "-session outside",
    ]


def test_a_failing_teardown_of_a_wide_fixture_is_an_error_of_the_last_test(runs):
    result = runs(
        """
        import pytest
        @pytest.fixture(scope="module")
        def shared(): yield; print("before it breaks"); raise RuntimeError("too late")
        @pytest.mark.minidocker
        def test_one(shared): pass
        @pytest.mark.minidocker
        def test_two(shared): pass
        """
    )
    assert result.parseoutcomes() == {"passed": 2, "errors": 1}
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_two*", "*too late*", "*before it breaks*"]
    )


def test_the_run_ends_after_the_maximum_of_failures(runs):
    source = """
        import pytest
        def test_one(): assert 0
        def test_two(): assert 0
        def test_three(): assert 0
        """
    assert runs(source, "--minidocker", "-x").parseoutcomes() == {"failed": 1}
    assert runs(source, "--minidocker", "--maxfail=2").parseoutcomes() == {"failed": 2}


def test_a_test_may_end_the_run(runs):
    source = """
        import pytest
        def test_one(request): {}
        def test_two(): pass
        """
    result = runs(source.format("pytest.exit('enough', returncode=42)"), "--minidocker")
    assert result.ret == 42
    assert "Exit: enough" in result.stdout.str() + result.stderr.str()
    result = runs(source.format("raise KeyboardInterrupt"), "--minidocker")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result = runs(source.format("request.session.shouldstop = 'stop it'"), "--minidocker")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert result.parseoutcomes() == {"passed": 1}
    result.stdout.fnmatch_lines(["*stop it*"])


def test_a_debugger_is_refused(runs):
    source = """
        import pdb, pytest
        @pytest.mark.minidocker
        def test_inside(): pass
        def test_outside(): pass
        """
    result = runs(source, "--pdb")
    assert result.parseoutcomes() == {"passed": 1, "errors": 1}
    result.stdout.fnmatch_lines(["*--pdb cannot be used with a test in a container*"])
    result = runs(source, "--minidocker", "--trace")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--trace cannot be used with --minidocker*"])
    result = runs(
        """
        import pdb, pytest
        def test_breakpoint(): breakpoint()
        def test_pdb(): pdb.set_trace()
        def test_pytest(): pytest.set_trace()
        """,
        "--minidocker",
    )
    assert result.parseoutcomes() == {"failed": 3}
    assert result.stdout.str().count("has no terminal for a debugger") >= 3


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("hostnam='lab'", "hostnam='lab': unknown option: did you mean 'hostname'?"),
        ("hostname='x' * 65", "hostname="),
        ("network='none', namespaces=NamespaceOptions.all().without_net()", "network"),
        ("'lab'", "takes keywords only"),
        ("timeout=-1", "timeout=-1: give seconds"),
        ("spec=3", "spec=3: it is of type int"),
    ],
)
def test_a_wrong_marker_is_an_error_of_its_test_alone(runs, marker, message):
    result = runs(
        f"""
        import pytest
        from minidocker import NamespaceOptions
        @pytest.mark.minidocker({marker})
        def test_wrong(): pass
        @pytest.mark.minidocker
        def test_right(): pass
        """
    )
    assert result.parseoutcomes() == {"passed": 1, "errors": 1}
    text = result.stdout.str()
    assert f"@pytest.mark.minidocker: {message}" in text or message in text
    assert "Traceback" not in result.stdout.str()


def test_the_setup_of_fixtures_is_shown(runs):
    source = """
        import pytest
        @pytest.fixture(scope="module", params=[1])
        def wide(request): yield
        @pytest.fixture
        def own(wide): yield
        def test_one(own): pass
        """
    for option in ("--setup-show", "--setup-only", "--setup-plan"):
        without, within = (runs(source, option, *args) for args in ((), ("--minidocker",)))
        assert same(within.stdout.str()) == same(without.stdout.str())
        assert "SETUP    F own" in within.stdout.str()


def test_the_plugin_imports_nothing_until_it_is_used():
    code = """
        import sys, pytest
        before = set(sys.modules)
        import minidocker.pytest_plugin
        new = sorted(set(sys.modules) - before)
        assert new == [
            "minidocker",
            "minidocker._pytest",
            "minidocker._pytest.kept",
            "minidocker.pytest_plugin",
        ], new
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_every_public_name_can_be_imported():
    code = """
        import minidocker
        from minidocker import *
        for name in minidocker.__all__:
            assert getattr(minidocker, name) is globals()[name]
            assert name in dir(minidocker)
        try:
            minidocker.no_such_name
        except AttributeError as error:
            assert "no_such_name" in str(error)
        else:
            raise SystemExit(1)
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_without_the_plugin_its_option_does_not_exist(runs):
    source = "def test_one(): pass"
    result = runs(source, "--minidocker", plugin=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result = runs(source, "-p", "no:minidocker", plugin=False)
    assert result.parseoutcomes() == {"passed": 1}
