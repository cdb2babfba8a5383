"""The fixtures and rules of the suite notice each kind of fault."""

import os
import subprocess
import sys
import threading

import pytest

from minidocker import linux
from minidocker.linux import CloneFlags
from support.child import in_child
from support.leaks import Holdings
from support.mounts import unshare_mounts
from support.places import REPOSITORY, TESTS
from support.survivors import Survivors

pytest_plugins = ["pytester"]


def differing(before):
    return set(before.differences(Holdings.now()))


def test_a_descriptor_left_open_is_noticed():
    before = Holdings.now()
    descriptor = os.open("/dev/null", os.O_RDONLY)
    assert differing(before) == {"descriptors"}
    os.close(descriptor)
    before.assert_unchanged()


def test_a_descriptor_that_was_replaced_is_noticed():
    descriptor = os.open("/dev/null", os.O_RDONLY)
    before = Holdings.now()
    other = os.open("/dev/zero", os.O_RDONLY)
    os.dup2(other, descriptor)
    os.close(other)
    assert differing(before) == {"descriptors"}
    os.close(descriptor)


def test_a_child_and_then_its_zombie_are_noticed():
    before = Holdings.now()
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert "children" in differing(before)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    (zombie,) = before.differences(Holdings.now())["children"]["gained"]
    assert zombie == f"{child.pid} (cat) Z"
    child.wait()
    before.assert_unchanged()


def test_a_thread_left_running_is_noticed():
    before = Holdings.now()
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    assert differing(before) == {"threads"}
    end.set()
    thread.join()
    before.assert_unchanged()


@pytest.mark.root(reason="mounts on the host")
def test_a_mount_left_behind_is_noticed(tmp_path):
    before = Holdings.now()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        assert differing(before) == {"mounts"}
        with pytest.raises(AssertionError, match="mounts"):
            before.assert_unchanged(grace=0)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    before.assert_unchanged()


@pytest.mark.root(reason="mounts on the host")
def test_a_mount_that_propagates_from_another_namespace_is_noticed(tmp_path):
    def mount_in_another_namespace():
        linux.unshare(CloneFlags.NEWNS)
        linux.mount("tmpfs", tmp_path, "tmpfs")

    before = Holdings.now()
    in_child(mount_in_another_namespace)
    assert differing(before) == {"mounts"}
    linux.umount2(tmp_path)
    before.assert_unchanged()


@pytest.mark.root(reason="mounts on the host")
def test_the_mounts_of_another_program_are_not_noticed(tmp_path):
    def mount_for_the_parent():
        unshare_mounts()
        before = Holdings.now()
        into_parent = ["nsenter", f"--mount=/proc/{os.getppid()}/ns/mnt"]
        subprocess.run([*into_parent, "mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
        return differing(before)

    assert in_child(mount_for_the_parent) == set()
    linux.umount2(tmp_path)


def test_a_process_that_outlives_its_parent_is_found_by_its_environment():
    survivors = Survivors()
    # During execve(2) the kernel shows no arguments; a line of output means that it has finished.
    script = "import time; print(flush=True); time.sleep(60)"
    shell = ["sh", "-c", '"$0" -c "$1" & :', sys.executable, script]
    with subprocess.Popen(shell, env=survivors.env, stdout=subprocess.PIPE) as parent:
        parent.stdout.readline()
    (arguments,) = survivors.find().values()
    assert "sleep(60)" in arguments
    with pytest.raises(AssertionError, match=r"sleep\(60"):
        survivors.wait_until_gone(timeout=0)
    survivors.kill()
    survivors.wait_until_gone()


def test_a_process_with_an_empty_environment_is_found_by_its_arguments():
    survivors = Survivors()
    # Popen may return before the kernel shows the arguments, so wait for a line of output.
    script = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, survivors.mark]
    with subprocess.Popen(command, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert list(survivors.find()) == [child.pid]
        child.stdin.close()
    survivors.wait_until_gone()


def test_the_noop_program_is_static_and_ends_with_0(noop):
    assert subprocess.run([noop], env={}, check=True).returncode == 0
    # PT_INTERP names the dynamic linker; a static program has no such header.
    headers = subprocess.run(["readelf", "-l", noop], capture_output=True, text=True, check=True)
    assert "INTERP" not in headers.stdout


SKIPPING = """
    import pytest

    def test_skips():
        pytest.skip("the kernel forbids it")

    @pytest.mark.skipif(True, reason="never here")
    def test_is_skipped_by_a_marker():
        pass

    @pytest.mark.may_skip_in_ci(reason="the tests' own example")
    def test_skips_with_a_justification():
        pytest.skip("there is no such machine")

    @pytest.mark.xfail(reason="not a skip")
    def test_is_expected_to_fail():
        raise AssertionError
"""


@pytest.fixture
def project(pytester):
    configuration = REPOSITORY / "pyproject.toml"
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.makepyprojecttoml(
        configuration.read_text().replace('pythonpath = ["tests"]', f'pythonpath = ["{TESTS}"]')
    )
    return pytester


def run(project, *arguments):
    return project.runpytest_subprocess("-p", "no:cacheprovider", "-n", "0", *arguments)


@pytest.mark.parametrize(
    ("ci", "outcomes"),
    [
        ("true", {"failed": 1, "errors": 1, "skipped": 1, "xfailed": 1}),
        ("", {"skipped": 3, "xfailed": 1}),
    ],
)
def test_a_skip_without_justification_is_a_failure_in_ci(project, monkeypatch, ci, outcomes):
    monkeypatch.setenv("CI", ci)
    result = run(project, project.makepyfile(SKIPPING))
    assert result.parseoutcomes() == outcomes
    if ci:
        result.stdout.fnmatch_lines(["*CI=true makes that a failure*the kernel forbids it*"])


def test_the_skip_of_a_whole_module_is_a_failure_in_ci(project, monkeypatch):
    monkeypatch.setenv("CI", "true")
    result = run(
        project, project.makepyfile("import pytest; pytest.importorskip('no_such_module')")
    )
    assert result.parseoutcomes() == {"errors": 1}


def test_a_test_for_the_other_user_is_deselected(project):
    module = project.makepyfile("""
        import os, pytest

        @pytest.mark.root(reason="shows who runs")
        def test_for_root():
            assert os.geteuid() == 0

        @pytest.mark.plain(reason="shows who runs")
        def test_for_a_plain_user():
            assert os.geteuid() != 0
    """)
    assert run(project, module).parseoutcomes() == {"passed": 1, "deselected": 1}


def test_a_marker_without_a_reason_is_refused(project):
    module = project.makepyfile("import pytest\n\n@pytest.mark.root\ndef test_it(): pass")
    result = run(project, module)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_it: the marker root needs a reason=...*"])
