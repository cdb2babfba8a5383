"""The user and groups of a command: user, group and extra_groups."""

import grp
import os
import pickle
import pwd
import subprocess
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions, PermissionDenied, SpecError
from support.commands import MODES, python, sh

IDS = sh("id -u; id -g; id -G")
as_root = pytest.mark.root(reason="only root may become other users outside")
as_plain = pytest.mark.plain(reason="only a plain user has a single id outside")
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
with_user_namespace = pytest.mark.parametrize(
    "mode", [mode for name, mode in MODES.items() if name != "none"]
)


def ids(command=IDS, **options):
    output = minidocker.run(command, capture_output=True, text=True, check=True, **options).stdout
    return [[int(number) for number in line.split()] for line in output.splitlines()]


@with_user_namespace
def test_the_command_is_root_inside_by_default(mode):
    assert ids(**mode)[:2] == [[0], [0]]


def test_without_a_user_namespace_the_command_is_the_caller():
    assert ids(namespaces=NamespaceOptions.none())[:2] == [[os.getuid()], [os.getgid()]]


@as_root
@every_mode
@pytest.mark.parametrize(
    ("options", "uid", "gid"),
    [
        ({"user": 1234}, 1234, 0),
        ({"user": "1234"}, 1234, 0),
        ({"user": "nobody"}, 65534, 0),
        ({"user": "nobody:nogroup"}, 65534, 65534),
        ({"user": "nobody:1234"}, 65534, 1234),
        ({"user": "1234:nogroup"}, 1234, 65534),
        ({"user": 1234, "group": 4321}, 1234, 4321),
        ({"user": "nobody", "group": "nogroup"}, 65534, 65534),
        ({"group": 4321}, 0, 4321),
    ],
)
def test_the_command_of_a_root_caller_has_the_given_ids(mode, options, uid, gid):
    before = os.getresuid(), os.getresgid(), os.getgroups()
    assert ids(sh("id -u; id -g"), **options, **mode) == [[uid], [gid]]
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@as_root
@every_mode
def test_the_host_sees_the_same_ids_for_a_root_caller(mode):
    with minidocker.Popen(
        sh("echo ready; cat"),
        user=1234,
        group=4321,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **mode,
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        command = process.pid
        if mode.get("init"):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            command = int(children.split()[0])
        status = Path(f"/proc/{command}/status").read_text()
        assert "Uid:\t1234\t1234\t1234\t1234" in status
        assert "Gid:\t4321\t4321\t4321\t4321" in status
        assert "CapEff:\t0000000000000000" in status
        process.stdin.close()


@as_root
@every_mode
def test_root_sets_groups_by_number_and_by_name(mode):
    assert ids(extra_groups=[7, 4321], **mode)[2] == [0, 7, 4321]
    tty = grp.getgrnam("tty").gr_gid
    assert ids(extra_groups=["tty"], user="nobody:nogroup", **mode)[2] == [65534, tty]
    assert ids(extra_groups=[], **mode)[2] == [0]


@as_plain
@with_user_namespace
@pytest.mark.parametrize("user", [1234, "1234", "nobody", "root", "nobody:nogroup", "nobody:1234"])
def test_the_command_of_a_plain_caller_has_the_given_ids_inside(user, mode, tmp_path):
    name, _, group = str(user).partition(":")
    uid = int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    found = ids(sh('id -u; id -g; : >"$1"', str(tmp_path / "file")), user=user, **mode)
    assert found[0] == [uid]
    if group:
        assert found[1] == [int(group) if group.isdigit() else grp.getgrnam(group).gr_gid]
    # Outside, the file belongs to the caller.
    made = (tmp_path / "file").stat()
    assert (made.st_uid, made.st_gid) == (os.getuid(), os.getgid())


@as_plain
def test_another_user_of_a_plain_caller_has_no_capabilities():
    status = Path("/proc/self/status")
    output = minidocker.run(["cat", status], user=1234, capture_output=True, text=True).stdout
    assert "CapEff:\t0000000000000000" in output
    output = minidocker.run(["cat", status], capture_output=True, text=True).stdout
    assert "CapEff:\t0000000000000000" not in output


@as_plain
@every_mode
def test_a_plain_caller_cannot_set_groups_and_the_error_says_why(mode, leaks):
    with pytest.raises(PermissionDenied) as caught:
        minidocker.run(["true"], extra_groups=[4321], **mode)
    assert caught.value.step == "groups"
    assert "leave extra_groups out" in caught.value.hint


@as_plain
def test_a_plain_caller_without_a_user_namespace_cannot_become_another(leaks):
    with pytest.raises(PermissionError) as caught:
        minidocker.run(["true"], user=1234, namespaces=NamespaceOptions.none())
    assert "user namespace" in str(caught.value)


def test_a_group_in_the_user_and_in_the_option_group_is_refused(leaks):
    with pytest.raises(SpecError, match="name the group once"):
        minidocker.run(["true"], user="root:root", group=1)


def test_users_and_groups_that_do_not_exist_are_refused_by_name(leaks):
    for options in (
        {"user": "no-such-user"},
        {"user": "root:no-such-group"},
        {"group": "no-such-group"},
        {"extra_groups": ["no-such-group"]},
    ):
        for function in (minidocker.run, minidocker.explain):
            with pytest.raises(SpecError, match=r"no-such-.*there is no such (user|group)"):
                function(["true"], **options)
    for options in ({"user": -1}, {"group": -1}, {"extra_groups": [-1]}, {"extra_groups": "root"}):
        with pytest.raises(ValueError, match=r"negative|not a string"):
            minidocker.run(["true"], **options)


@pytest.mark.parametrize("number", [2**32 - 1, 2**32, 2**33, 2**64, "9" * 5000])
def test_numbers_that_are_not_ids_are_refused(number, leaks):
    for option in ("user", "group"):
        with pytest.raises(SpecError, match=f"{option}=.*not an id: give a number"):
            minidocker.run(["true"], **{option: number})
    with pytest.raises(SpecError, match=r"user=.*not an id: give a number"):
        minidocker.isolated(user=number)(len)("")


@pytest.mark.parametrize("number", [-2, -1, 2**32 - 1, 2**33, 2**64])
def test_a_container_for_a_number_that_is_not_an_id_is_refused_before_it_starts(number):
    with pytest.raises(SpecError, match=f"user={number}: .*not an id"):
        minidocker.Container(user=number)


@pytest.mark.parametrize(
    "option", ["user", "group", "umask", "process_group", "stdin", "stdout", "stderr"]
)
@pytest.mark.parametrize("number", [2**33, 2**64])
def test_a_number_that_is_too_large_is_an_overflow_error_as_with_subprocess(option, number, leaks):
    for run in (subprocess.run, minidocker.run):
        with pytest.raises(OverflowError) as raised:
            run(["true"], **{option: number})
    assert isinstance(raised.value, SpecError)
    assert f"{option}={number}: " in str(raised.value)
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (type(copy), str(copy)) == (type(raised.value), str(raised.value))


@with_user_namespace
def test_an_id_that_has_no_row_is_refused_with_the_remedy(mode, leaks):
    rows = {"uid_map": [(0, os.getuid(), 1)], "gid_map": [(0, os.getgid(), 1)]}
    with pytest.raises(SpecError, match="Add a row"):
        minidocker.run(["true"], user=77, **rows, **mode)
    with pytest.raises(SpecError, match="Add a row"):
        minidocker.run(["true"], group=77, **rows, **mode)


@as_root
def test_the_caller_stays_dumpable_when_a_command_becomes_another_user(leaks):
    code = (
        "import ctypes, minidocker\n"
        "libc = ctypes.CDLL(None)\n"
        "before = libc.prctl(3, 0, 0, 0, 0)\n"
        "minidocker.run(['true'], user=1234, check=True)\n"
        "print(before, libc.prctl(3, 0, 0, 0, 0))"
    )
    path = str(Path(minidocker.__file__).parents[1])
    done = subprocess.run(
        python(f"import sys; sys.path.append({path!r})\n{code}"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1 1\n"
