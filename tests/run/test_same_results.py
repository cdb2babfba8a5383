"""Programs give the same output and write the same files under "namespaces" and "untrusted"."""

import hashlib
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount
from support.attack import interpreter
from support.programs import ABOUT_THE_HOST, SHELL
from support.python_programs import ENVIRONMENT, PYTHON

SOME = pytest.mark.may_skip_in_ci(reason="not every machine has every program")
PLACE = "/mnt"
VARIABLES = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "HOME": "/var/tmp",
    "TMPDIR": "/var/tmp",
    "TMUX_TMPDIR": "/var/tmp",
    "LC_ALL": "C.UTF-8",
    "TERM": "xterm",
    "SOURCE_DATE_EPOCH": "1000000000",
    "GIT_AUTHOR_DATE": "2001-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2001-01-01T00:00:00Z",
}


def files_in(directory):
    """Return the mode and the content of each file."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = ""
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        owned = status.st_uid == os.geteuid()
        found[str(path.relative_to(directory))] = (status.st_mode, content, owned)
    return found


def result(words, profile, **options):
    """Run a program in an empty directory; return its status, output and files."""
    with tempfile.TemporaryDirectory(prefix="minidocker-programs-") as name:
        if "user" in options:
            os.chmod(name, 0o777)
        private = [Mount("/var/tmp", type="tmpfs", options="exec")]
        if profile == "untrusted":
            private = []
        done = minidocker.run(
            words,
            profile=profile,
            mounts=[*private, Mount(PLACE, name)],
            cwd=PLACE,
            env=VARIABLES,
            capture_output=True,
            timeout=60,
            **options,
        )
        return done.returncode, done.stdout, done.stderr, files_in(Path(name))


def assert_same(words, **options):
    expected = result(words, "namespaces", **options)
    assert expected[0] == 0, expected
    assert expected[1] or expected[3], "the program has neither output nor files"
    assert result(words, "untrusted", **options) == expected


@pytest.mark.parametrize("name", PYTHON)
def test_python_has_the_same_result(name):
    assert_same([interpreter(), "-I", "-c", PYTHON[name]])


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_package_of_a_virtual_environment_has_the_same_result(name):
    pytest.importorskip(name)
    assert_same([sys.executable, "-I", "-c", ENVIRONMENT[name]])


def skip_without(program):
    if shutil.which(program, path=VARIABLES["PATH"]) is None:
        pytest.skip(f"no {program} here")


@SOME
@pytest.mark.parametrize("name", SHELL)
def test_a_program_has_the_same_result(name):
    skip_without(name)
    assert_same(["bash", "-c", SHELL[name]])


DATABASE = r"""
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin); export PGHOST=/var/tmp PGDATA=/var/tmp/data
initdb -A trust -U x --no-sync --no-instructions > /var/tmp/log
pg_ctl -w -o '-F -k /var/tmp -h ""' -l /var/tmp/log start > /var/tmp/start || cat /var/tmp/log
psql -U x -Atc 'select sum(n), current_setting($$TimeZone$$) from generate_series(1, 9) n' postgres
pg_ctl -m immediate stop > /dev/null
"""


@SOME
def test_a_database_has_the_same_result():
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("no initdb here")
    # It refuses to run as root.
    assert_same(["bash", "-c", DATABASE], user=1000, group=1000)


@SOME
@pytest.mark.parametrize("name", ABOUT_THE_HOST)
def test_a_program_about_the_host_has_another_result(name):
    skip_without(name)
    words = ["bash", "-c", ABOUT_THE_HOST[name]]
    status, *rest = result(words, "namespaces")
    assert status == 0, rest
    assert result(words, "untrusted")[:2] != (status, rest[0])
