"""What other plugins see of a test in a container: its phases and reports, outside, as usual."""

import xml.etree.ElementTree as ET

import pytest

SESSION = """
    import os, pytest

    SEEN = []

    def note(*what):
        if os.getpid() != 2:
            SEEN.append(what)

    def pytest_sessionfinish(session):
        print()
        for what in SEEN:
            print("seen:", *what)
    """


def test_other_plugins_see_every_phase_its_exception_and_its_report(runs):
    runs.pytester.makeconftest(
        SESSION
        + """
    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(item):
        try:
            return (yield)
        except BaseException as error:
            note("raised", type(error).__mro__[0].__name__, isinstance(error, Exception), error)
            raise

    def pytest_runtest_setup(item): note("setup", item.name)
    def pytest_runtest_teardown(item): note("teardown", item in item.session._setupstate.stack)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(item, call):
        report = yield
        error = call.excinfo and call.excinfo.type.__name__
        note("report", report.when, report.outcome, error, item.funcargs.get("wide"))
        return report

    @pytest.fixture(scope="module")
    def wide(): return "shared"
    """
    )
    result = runs(
        """
        import unittest, pytest
        class OwnError(LookupError):
            def __init__(self, one, two): super().__init__(one); self.two = two
        def test_passes(wide): pass
        def test_fails(wide): raise OwnError("the text", 2)
        def test_skips(): pytest.skip("the reason")
        def test_group(): raise ExceptionGroup("several", [ValueError(1)])
        class TestUnit(unittest.TestCase):
            def test_unit(self): self.assertEqual(1, 2)
        """,
        "--minidocker",
        "-s",
    )
    assert result.parseoutcomes() == {"passed": 1, "failed": 3, "skipped": 1}
    seen = [line for line in result.outlines if line.startswith("seen:")]
    assert seen[:11] == [
        "seen: setup test_passes",
        "seen: report setup passed None shared",
        "seen: report call passed None shared",
        "seen: teardown True",
        "seen: report teardown passed None shared",
        "seen: setup test_fails",
        "seen: report setup passed None shared",
        "seen: raised OwnError True the text",
        "seen: report call failed OwnError shared",
        "seen: teardown True",
        "seen: report teardown passed None shared",
    ]
    assert "seen: raised Skipped False the reason" in seen
    assert "seen: report call skipped Skipped None" in seen
    assert "seen: raised ExceptionGroup True several (1 sub-exception)" in seen
    assert "seen: report call failed AssertionError None" in seen


def test_a_plugin_that_runs_a_test_again_gets_a_new_container(runs):
    runs.pytester.makeconftest(
        """
        import pytest
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            for number in range(3):
                reports = runtestprotocol(item, nextitem=nextitem, log=False)
                if not any(report.failed for report in reports):
                    break
                assert item.outcomes == {"setup": "passed", "call": "failed", "teardown": "passed"}
            for report in reports:
                item.ihook.pytest_runtest_logreport(report=report)
            return True

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(item, call):
            report = yield
            if report.when == "setup":
                item.outcomes = {}
            item.outcomes[report.when] = report.outcome
            return report
        """
    )
    result = runs(
        """
        import os, pathlib, socket, pytest
        COUNT = pathlib.Path(__file__).with_name("count")

        @pytest.fixture(scope="module")
        def wide(): yield print("wide is set up"); print("wide is torn down")

        def test_flaky(wide):
            with COUNT.open("a") as file:
                print(socket.gethostname(), os.getpid(), file=file)
            # A change in an earlier container is not seen here.
            socket.sethostname(f"changed-{COUNT.stat().st_size}")
            assert len(COUNT.read_text().splitlines()) == 3

        def test_never(wide): assert 0
        """,
        "--minidocker",
        "-s",
    )
    assert result.parseoutcomes() == {"passed": 1, "failed": 1}
    attempts = (runs.pytester.path / "count").read_text().splitlines()
    assert len(attempts) == 3
    assert len(set(attempts)) == 1
    assert attempts[0].endswith(" 2")
    assert result.stdout.str().count("wide is torn down") == result.stdout.str().count(
        "wide is set up"
    )


def test_a_report_that_plugins_change_inside_and_outside_is_changed_once(runs):
    runs.pytester.makeconftest(
        """
        import pytest

        class Opaque:
            pass

        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_makereport(item, call):
            outcome = yield
            report = outcome.get_result()
            report.sections.append(("Appended", "by a plugin"))
            report.user_properties.append(("where", "anywhere"))
            report.plain, report.opaque = "kept", Opaque()
            item.reported = report
            if report.when == "call":
                # Pytest's documentation has this example. Outside there is no such value.
                report.sections.append(("Directory", str(item.funcargs["tmp_path"].name)))

        def pytest_runtest_logreport(report):
            assert report.plain == "kept"
            print("SECTIONS", report.when, [title for title, _ in report.sections])
            print("PROPERTIES", report.when, report.user_properties)
        """
    )
    result = runs(
        """
        import pytest
        @pytest.fixture
        def looks_at_the_report(request):
            yield
            assert request.node.reported.when == "call"
        def test_one(tmp_path, looks_at_the_report, record_property): record_property("own", 1)
        """,
        "--minidocker",
        "-s",
        "-Werror",
    )
    assert result.parseoutcomes() == {"passed": 1}
    assert [line.lstrip(".") for line in result.outlines if "SECTIONS" in line] == [
        "SECTIONS setup ['Appended']",
        "SECTIONS call ['Appended', 'Directory']",
        "SECTIONS teardown ['Appended']",
    ]
    assert "PROPERTIES call [('own', 1), ('where', 'anywhere')]" in result.outlines


def test_what_hooks_write_and_log_in_a_phase_is_captured_once(runs):
    runs.pytester.makeconftest(
        """
        import logging, pytest
        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_setup(item): print("HOOK setup"); logging.warning("LOGGED setup")
        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_call(item): print("HOOK call"); logging.warning("LOGGED call")
        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_teardown(item): print("HOOK teardown"); logging.warning("LOGGED end")
        """
    )
    for capture in ("fd", "sys"):
        result = runs("def test_one(): pass", "--minidocker", f"--capture={capture}")
        text = result.stdout.str()
        for words in ("HOOK setup", "HOOK call", "HOOK teardown", "LOGGED setup", "LOGGED call"):
            assert text.count(words) == 1, text


def test_a_hook_that_skips_or_fails_before_the_container_needs_none(runs):
    runs.pytester.makeconftest(
        """
        import pytest
        def pytest_runtest_setup(item):
            if item.name == "test_skipped": pytest.skip("by a hook")
        def pytest_runtest_call(item):
            if item.name == "test_not_called": raise RuntimeError("by a hook of the call")
        """
    )
    result = runs(
        """
        import pytest
        @pytest.fixture
        def own(): yield; print("own is torn down")
        def test_skipped(): pass
        def test_not_called(own): print("it was called")
        """,
        "--minidocker",
    )
    assert result.parseoutcomes() == {"skipped": 1, "failed": 1}
    text = result.stdout.str()
    assert "own is torn down" in text
    assert "it was called" not in text


def test_both_failures_of_a_teardown_are_reported(runs):
    result = runs(
        """
        import pytest
        @pytest.fixture(scope="module")
        def wide(): yield; raise RuntimeError("the shared fixture breaks")
        @pytest.fixture
        def own(): yield; raise RuntimeError("the test's own fixture breaks")
        def test_one(wide, own): pass
        """,
        "--minidocker",
    )
    assert result.parseoutcomes() == {"passed": 1, "errors": 2}
    result.stdout.fnmatch_lines_random(
        ["E*the shared fixture breaks", "E*the test's own fixture breaks"]
    )


def test_an_error_between_the_phases_ends_the_container(runs, survivors):
    """An exception in another plugin's hook ends the run, and must not leave a container behind."""
    runs.pytester.makeconftest(
        """
        import pytest
        def pytest_runtest_logreport(report): raise RuntimeError("a plugin breaks")
        """
    )
    result = runs(
        f"""
        import os, subprocess, pytest
        @pytest.fixture
        def process():
            subprocess.Popen(["sleep", "60"], env={{**os.environ, **{survivors.env!r}}})
        def test_one(process): pass
        """,
        "--minidocker",
    )
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert "a plugin breaks" in result.stdout.str() + result.stderr.str()


def test_items_of_other_plugins_run_in_containers(runs):
    """They may have no fixtures, their own report of a failure, and a replaced ``runtest``."""
    runs.pytester.makeconftest(
        """
        import os, pytest

        class Thing(pytest.Item):
            def setup(self): assert os.getpid() == 2
            def runtest(self): assert self.name == "good"
            def repr_failure(self, excinfo): return "a thing's own failure"

        class Things(pytest.File):
            def collect(self):
                return [Thing.from_parent(self, name=name) for name in ("good", "bad")]

        def pytest_collect_file(parent, file_path):
            if file_path.suffix == ".thing":
                return Things.from_parent(parent, path=file_path)

        def pytest_itemcollected(item):
            if item.name == "test_replaced":
                real = item.runtest
                def runtest(): print("the replacement in", os.getpid()); real()
                item.runtest = runtest
        """
    )
    path = runs.pytester.path / "some.thing"
    path.touch()
    result = runs(
        "def test_replaced(): print('the test')",
        "--minidocker",
        path,
    )
    assert result.parseoutcomes() == {"passed": 2, "failed": 1}
    result.stdout.fnmatch_lines(
        ["a thing's own failure", "*Captured stdout call*", "the replacement in 2", "the test"]
    )


def test_a_test_that_ends_the_run_in_a_fixture_leaves_no_container(runs, survivors):
    for ending, status in [("pytest.exit('enough', 9)", 9), ("raise KeyboardInterrupt", 2)]:
        for before, after in [(ending, "pass"), ("pass", ending)]:
            result = runs(
                f"""
                import os, subprocess, pytest
                @pytest.fixture(scope="module")
                def wide(): yield; print("wide is torn down")
                @pytest.fixture
                def ends():
                    subprocess.Popen(["sleep", "60"], env={{**os.environ, **{survivors.env!r}}})
                    {before}
                    yield
                    {after}
                def test_one(wide, ends): pass
                def test_two(): pass
                """,
                "--minidocker",
                "-s",
            )
            assert result.ret == status
            assert "wide is torn down" in result.stdout.str()


def test_tests_run_in_containers_without_a_terminal_reporter(runs):
    path = runs.pytester.makepyfile("def test_one(): pass\ndef test_two(): assert 0\n")
    options = ("-p", "minidocker", "-p", "no:terminal", "--minidocker", "--junitxml=junit.xml")
    result = runs.pytester.runpytest_subprocess(*options, path, timeout=60)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    suite = ET.parse(runs.pytester.path / "junit.xml").find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")


def test_a_wider_fixture_is_torn_down_once_however_pytest_stores_it(runs):
    runs.pytester.makeconftest(
        """
        import itertools

        def pytest_collection_finish(session):
            # pytest 9.2 stores its fixtures elsewhere, and has a method that returns all of them.
            manager = session._fixturemanager
            if not hasattr(manager, "_get_all_fixture_defs"):
                stored = vars(manager).pop("_arg2fixturedefs")
                manager._get_all_fixture_defs = lambda: itertools.chain(*stored.values())
        """
    )
    result = runs(
        """
        import os, pytest

        @pytest.fixture(scope="module")
        def shared():
            yield os.getpid()
            with open("torn-down", "a") as file:
                file.write(f"{os.getpid()}\\n")

        def test_first(shared): assert os.getpid() != shared
        def test_last(shared): assert os.getpid() != shared
        """,
        "--minidocker",
    )
    result.assert_outcomes(passed=2)
    torn_down = (runs.pytester.path / "torn-down").read_text().split()
    assert len(torn_down) == 1
    assert torn_down != ["2"]
