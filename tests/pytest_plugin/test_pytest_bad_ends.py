"""Tests in containers that crash, hang, leave something behind, or get no container."""

import re
import sys

import pytest

import minidocker


def test_nothing_is_left_after_many_tests(runs):
    result = runs(
        """
        import os, pytest
        def holdings():
            threads = len(os.listdir("/proc/self/task"))
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = file.read().split()
            # A plain user cannot mount, and would count the mounts of other programs.
            with open("/proc/self/mountinfo") as file:
                mounts = 0 if os.geteuid() else len(file.readlines())
            return len(os.listdir("/proc/self/fd")), threads, mounts, children
        SEEN = []
        @pytest.mark.minidocker
        def test_first(): pass
        def test_note(): SEEN.append(holdings())
        @pytest.mark.minidocker
        @pytest.mark.parametrize("number", range(40))
        def test_many(number):
            if number % 4 == 1: os._exit(1)
            if number % 4 == 2: os.kill(os.getpid(), 9)
            if number % 4 == 3:
                if not os.fork():
                    os.setsid()
                    while True: os.pause() if hasattr(os, "pause") else __import__("time").sleep(9)
        def test_compare(): assert holdings() == SEEN[0]
        """
    )
    assert result.parseoutcomes() == {"passed": 23, "failed": 20}


def test_the_report_of_a_crash_has_its_phase_and_the_output(runs):
    result = runs(
        """
        import ctypes, logging, os, signal, sys, time, pytest

        @pytest.fixture(scope="module")
        def shared(): print("shared is set up")

        @pytest.fixture
        def dies(): print("in the fixture"); os._exit(5)

        @pytest.fixture
        def dies_later(): yield; print("in the teardown"); os._exit(6)

        def test_exits(shared):
            print("last words")
            print("last errors", file=sys.stderr)
            os._exit(3)
        def test_exits_with_success(): os._exit(0)
        def test_segfaults(): print("before the fault"); ctypes.string_at(0)
        def test_is_killed(): os.write(1, b"before the kill\\n"); os.kill(os.getpid(), 9)
        def test_aborts(): os.abort()
        def test_setup(dies): pass
        def test_teardown(dies_later): print("in the test")
        def test_capfd(capfd): print("in capfd"); os._exit(7)
        def test_capsys(capsys): print("in capsys"); os._exit(8)
        @pytest.mark.xfail(reason="it is known to crash")
        def test_xfails(): os._exit(9)
        @pytest.mark.minidocker(timeout=0.3)
        def test_hangs(): print("so far"); time.sleep(100)
        @pytest.mark.minidocker(timeout=0.3)
        def test_cannot_be_interrupted():
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); time.sleep(100)
        def test_after(): pass
        """,
        "--minidocker",
    )
    text = result.stdout.str()
    assert result.parseoutcomes() == {"failed": 9, "errors": 2, "passed": 2, "xfailed": 1}
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_setup*",
            "the test ended its interpreter during its setup, with exit status 5",
            "*ERROR at teardown of test_teardown*",
            "the test ended its interpreter during its teardown, with exit status 6",
            "*Captured stdout teardown*",
            "in the teardown",
            "*_ test_exits _*",
            "the test ended its interpreter during its call, with exit status 3",
            "*Captured stdout call*",
            "last words",
            "*Captured stderr call*",
            "last errors",
            "*_ test_exits_with_success _*",
            "the test ended its interpreter during its call, with exit status 0",
            "*_ test_segfaults _*",
            "the test crashed during its call: killed by SIGSEGV*",
            "before the fault",
            "*File * in test_segfaults",
            "*_ test_is_killed _*",
            "the test crashed during its call: killed by SIGKILL*",
            "before the kill",
            "*_ test_aborts _*",
            "the test crashed during its call: killed by SIGABRT*",
            "*_ test_capfd _*",
            "in capfd",
            "*_ test_capsys _*",
            "in capsys",
            "*_ test_hangs _*",
            "the test had not ended after 0.3 seconds",
            "so far",
        ]
    )
    # A crash has one report for each phase, and each piece of output once.
    assert text.count("last words") == 1
    assert text.count("in the fixture") == 1


def test_a_thread_that_never_ends_is_killed_with_its_test(runs):
    result = runs(
        """
        import threading, pytest
        @pytest.mark.minidocker
        def test_leaves_a_thread(): threading.Thread(target=threading.Event().wait).start()
        @pytest.mark.minidocker
        def test_joins_its_thread():
            thread = threading.Thread(target=print); thread.start(); thread.join()
        """
    )
    assert result.parseoutcomes() == {"passed": 2, "warnings": 1}
    result.stdout.fnmatch_lines(["*a thread that the test left running had not ended after*"])


def test_the_traceback_of_a_slow_test_is_shown_and_a_failing_test_does_not_hang(runs):
    """The thread of faulthandler_timeout is not in the copy, which must not wait for its end."""
    runs.pytester.makeini("[pytest]\nfaulthandler_timeout = 0.5")
    result = runs(
        """
        import time, pytest
        pytestmark = pytest.mark.minidocker(timeout=20)
        def test_fails(): assert False
        def test_is_slow():
            waits_here_a_while = time.sleep
            waits_here_a_while(1)
        def test_passes(): pass
        """
    )
    assert result.parseoutcomes() == {"passed": 2, "failed": 1}
    errors = result.stderr.str()
    assert errors.count("Timeout (0:00:00.5") == 1
    assert "in test_is_slow" in errors
    assert "_pytest/outside.py" not in errors


@pytest.mark.parametrize("plugin", [True, False])
def test_pytest_can_run_several_times_in_one_process(runs, plugin):
    """The outer pytest's watchdog is not in the copy either, which must not wait for its end."""
    runs.pytester.makeini("[pytest]\nfaulthandler_timeout = 60")
    result = runs(
        """
        pytest_plugins = ["pytester"]
        def test_runs_two(pytester):
            pytester.makepyfile(
                "def test_passes(tmp_path, capsys): pass\\n"
                "def test_fails(): assert 0\\n"
                "def test_exits(): __import__('os')._exit(0)\\n"
            )
            for _ in range(2):
                result = pytester.runpytest_inprocess("-p", "minidocker", "--minidocker")
                result.assert_outcomes(passed=1, failed=2)
        """,
        plugin=plugin,
    )
    assert result.parseoutcomes() == {"passed": 1}


def test_without_containers_tests_are_skipped_or_fail_as_required(runs):
    path = runs.pytester.makepyfile(
        """
        import pytest
        @pytest.mark.minidocker
        def test_inside(): pass
        def test_with_fixture(container): pass
        def test_outside(): pass
        """
    )

    def run_without_user_namespaces(*args):
        # In a container whose user namespace allows no others.
        pytest_ = [sys.executable, "-m", "pytest", "-p", "minidocker", "-p", "no:cacheprovider"]
        script = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
        command = ["sh", "-c", script, "sh", *pytest_, "-rs", "-q", path, *args]
        return minidocker.run(command, capture_output=True, text=True, cwd=runs.pytester.path)

    done = run_without_user_namespaces()
    assert "1 passed, 2 skipped" in done.stdout, done.stdout + done.stderr
    reasons = re.findall(r"SKIPPED \[\d\] .*", done.stdout)
    assert len(reasons) == 2
    assert all("max_user_namespaces" in reason and "Remedy" in reason for reason in reasons)
    done = run_without_user_namespaces("--minidocker-require")
    assert done.returncode == 1
    assert "1 passed, 2 errors" in done.stdout
    assert "max_user_namespaces" in done.stdout
