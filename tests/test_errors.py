"""The exceptions: their bases, their messages, and copies that lose nothing."""

import copy
import errno
import os
import pickle
import re
from concurrent.futures import BrokenExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidocker
from minidocker import (
    BrokenContainer,
    CallError,
    CallExited,
    CallFailed,
    CallKilled,
    CallLimitExceeded,
    CallResultError,
    CallTimeout,
    CommandNotFound,
    Error,
    NamespaceOptions,
    NotADirectory,
    NotReady,
    PathNotFound,
    PermissionDenied,
    SpawnError,
    SpecError,
    UnsupportedPlatformError,
    _errors,
)
from minidocker._errors import spawn_error, unknown_option
from minidocker._spelling import spelled

WAYS = [
    *(
        pytest.param(
            lambda error, p=protocol: pickle.loads(pickle.dumps(error, p)), id=f"pickle {protocol}"
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ),
    pytest.param(copy.copy, id="copy"),
    pytest.param(copy.deepcopy, id="deepcopy"),
]

texts = st.none() | st.text(max_size=30)
errnos = st.sampled_from(sorted(errno.errorcode))
spawn_errors = st.builds(
    spawn_error, errnos, texts | st.binary(max_size=30), texts, texts, command=st.booleans()
)


def state(error):
    return (
        type(error),
        error.args,
        str(error),
        error.errno,
        error.strerror,
        error.filename,
        error.step,
        error.hint,
    )


# --- the tree ----------------------------------------------------------------------------------


def test_the_documented_tree_names_the_second_base_of_each_class():
    tree = dict(re.findall(r"── (\w+)(?:\((\w+)\))?", _errors.__doc__))
    assert len(tree) == 16
    for name, base in tree.items():
        other = [
            kind for kind in getattr(minidocker, name).__bases__ if not issubclass(kind, Error)
        ]
        assert [kind.__name__ for kind in other] == ([base] if base else []), name


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (SpecError, (Error, ValueError)),
        (SpawnError, (Error, OSError)),
        (CommandNotFound, (SpawnError, FileNotFoundError)),
        (PathNotFound, (SpawnError, FileNotFoundError)),
        (NotADirectory, (SpawnError, NotADirectoryError)),
        (PermissionDenied, (SpawnError, PermissionError)),
        (CallError, (Error,)),
        (CallExited, (CallError,)),
        (CallKilled, (CallError,)),
        (CallLimitExceeded, (CallError,)),
        (CallTimeout, (CallError, TimeoutError)),
        (CallResultError, (CallError,)),
        (CallFailed, (CallError,)),
        (NotReady, (Error, TimeoutError)),
        (BrokenContainer, (Error, BrokenExecutor)),
        (UnsupportedPlatformError, (Error, NotImplementedError)),
    ],
)
def test_each_error_is_also_the_builtin_that_subprocess_would_raise(error, bases):
    assert error.__bases__ == bases
    assert getattr(minidocker, error.__name__) is error


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [NotReady, BrokenContainer])
def test_an_error_with_only_a_message_survives_pickle_and_copy(kind, way):
    again = way(kind("why"))
    assert (type(again), again.args) == (kind, ("why",))


def test_no_other_exception_is_public():
    public = [getattr(minidocker, name) for name in minidocker.__all__]
    found = {
        value for value in public if isinstance(value, type) and issubclass(value, BaseException)
    }
    calls = {CallExited, CallKilled, CallLimitExceeded, CallTimeout, CallResultError, CallFailed}
    launches = {SpecError, SpawnError, CommandNotFound, PathNotFound, NotADirectory}
    others = {PermissionDenied, NotReady, BrokenContainer, UnsupportedPlatformError}
    assert found == {Error, CallError} | calls | launches | others


@pytest.mark.parametrize(
    ("number", "command", "chosen"),
    [
        (errno.ENOENT, True, CommandNotFound),
        (errno.ENOENT, False, PathNotFound),
        (errno.ENOTDIR, True, NotADirectory),
        (errno.ENOTDIR, False, NotADirectory),
        (errno.EACCES, True, PermissionDenied),
        (errno.EPERM, False, PermissionDenied),
        (errno.ENOSPC, False, SpawnError),
        (errno.ENOEXEC, True, SpawnError),
    ],
)
def test_the_class_follows_from_the_errno(number, command, chosen):
    error = spawn_error(number, "name", "step", command=command)
    assert type(error) is chosen
    assert error.errno == number


@given(spawn_errors)
def test_the_class_derives_from_pythons_own_class_for_the_errno(error):
    plain = type(OSError(error.errno, "text"))
    if plain in (FileNotFoundError, NotADirectoryError, PermissionError):
        assert isinstance(error, plain)
    else:
        assert type(error) is SpawnError


# --- SpawnError --------------------------------------------------------------------------------


def test_a_spawn_error_is_one_sentence_with_its_remedy():
    error = spawn_error(errno.EPERM, "/proc", "mount proc on /proc", "run as root")
    assert str(error) == (
        "cannot mount proc on /proc: Operation not permitted (errno 1). Remedy: run as root"
    )


@pytest.mark.parametrize(
    ("options", "step", "remedy"),
    [
        ({"args": ["/tmp"]}, "exec", "user inside may not execute the file"),
        ({"args": ["true", "x" * (1 << 18)]}, "exec", "too long"),
        ({"pass_fds": (999,)}, "descriptors", "open it first"),
        ({"stdin": 999}, "stdio", "open it first"),
        ({"time_offsets": {"boottime": -1e9}}, "time", "a smaller offset"),
    ],
)
def test_the_remedy_fits_the_failure(options, step, remedy):
    options = {"args": ["true"], **options}
    if "time_offsets" in options:
        options["namespaces"] = NamespaceOptions.all().with_time()
    with pytest.raises(SpawnError) as caught:
        minidocker.run(options.pop("args"), **options)
    assert caught.value.step == step
    assert remedy in str(caught.value)


def test_the_message_has_a_file_that_the_step_does_not_name():
    error = spawn_error(errno.ENOENT, b"/a\xff", "execute the command", command=True)
    assert str(error) == (
        "cannot execute the command b'/a\\xff': No such file or directory (errno 2)"
    )
    part = spawn_error(errno.ENOENT, "/proc", "mount proc on /proc/self")
    assert "'/proc'" in str(part)


@given(spawn_errors)
def test_the_message_of_a_spawn_error_has_all_its_attributes(error):
    message = str(error)
    assert f"{os.strerror(error.errno)} (errno {error.errno})" in message
    for known in (error.step, error.hint):
        assert known is None or known in message
    assert error.filename is None or (
        repr(error.filename) in message or os.fsdecode(error.filename) in error.step.split()
    )
    assert error.strerror == os.strerror(error.errno)


@pytest.mark.parametrize("again", WAYS)
@given(error=spawn_errors)
def test_a_spawn_error_survives_pickle_and_copy(again, error):
    error.add_note("a note")
    other = again(error)
    assert state(other) == state(error)
    assert other.__notes__ == ["a note"]


def test_a_spawn_error_with_only_a_message_is_a_sentence():
    assert str(SpawnError("no descriptors left")) == (
        "cannot start the container: no descriptors left"
    )


# --- SpecError ---------------------------------------------------------------------------------


def test_a_spec_error_names_the_option_the_value_and_the_reason():
    error = SpecError("a host name has 1 to 64 bytes", option="hostname", value="")
    assert str(error) == "hostname='': a host name has 1 to 64 bytes"
    assert (error.option, error.value) == ("hostname", "")


def test_a_long_value_is_shortened_in_the_message_and_whole_in_the_attribute():
    error = SpecError("too long", option="hostname", value="h" * 1000)
    assert len(str(error)) < 100
    assert error.value == "h" * 1000


def test_a_spec_error_without_an_option_is_its_reason():
    assert str(SpecError("args is empty")) == "args is empty"
    assert str(SpecError("not with net", option="network")) == "network: not with net"


@pytest.mark.parametrize("again", WAYS)
@given(reason=st.text(max_size=20), option=texts, value=st.none() | st.lists(st.integers()))
def test_a_spec_error_survives_pickle_and_copy(again, reason, option, value):
    error = SpecError(reason, option=option, value=value)
    error.add_note("a note")
    other = again(error)
    assert type(other) is SpecError
    assert (other.args, other.option, other.value) == ((reason,), option, value)
    assert str(other) == str(error)
    assert other.__notes__ == ["a note"]


def test_a_spec_error_can_be_pickled_even_if_its_value_cannot():
    error = SpecError("refused", option="preexec_fn", value=lambda: None)
    other = pickle.loads(pickle.dumps(error))
    assert "<function" in other.value
    assert other.option == "preexec_fn"
    assert pickle.loads(pickle.dumps(other)).value == other.value
    # A copy within one process keeps the value itself.
    assert copy.copy(error).value is error.value
    assert copy.deepcopy(error).value is error.value


@pytest.mark.parametrize("again", WAYS)
@pytest.mark.parametrize("kind", [Error, UnsupportedPlatformError])
def test_the_other_errors_survive_pickle_and_copy(again, kind):
    other = again(kind("why"))
    assert (type(other), other.args) == (kind, ("why",))


# --- refusals by the core, in Python's words ---------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"hostname": "lab", "namespaces": NamespaceOptions.all().without_uts()},
            "Make the UTS namespace new: NamespaceOptions.with_uts()",
        ),
        (
            {"network": "none", "namespaces": NamespaceOptions.all().without_net()},
            "Leave it out, or make the network namespace new: NamespaceOptions.with_net()",
        ),
        (
            {"start_new_session": False},
            "Leave it out, or share the PID namespace: NamespaceOptions.all().without_pid()",
        ),
    ],
)
def test_a_refusal_by_the_core_has_a_remedy_in_python_syntax(options, words):
    with pytest.raises(SpecError) as refused:
        minidocker.run(["true"], **options)
    assert str(refused.value).endswith(f". {words}")


def test_a_setting_without_a_spelling_keeps_its_neutral_words():
    assert spelled("Or {}", "of-tomorrow", "wait", None) == "Or wait"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("no-filter", 'pass seccomp="unconfined"'),
        ("subordinate-ids", 'leave extra_groups out, or set uid_map and gid_map to "auto"'),
        ("every-id", "pass uid_map=[(0, 0, 4294967295)] and gid_map=[(0, 0, 4294967295)]"),
    ],
)
def test_a_setting_of_the_core_is_spelled_in_python_syntax(setting, words):
    assert spelled("Or {}", setting, "do it", None) == f"Or {words}"


def test_a_nul_in_an_argument_is_refused_in_the_words_of_subprocess():
    with pytest.raises(ValueError, match="embedded null byte"):
        minidocker.run(["true", "a\0b"])


def test_a_refusal_by_the_core_shows_values_in_python_syntax():
    with pytest.raises(SpecError, match=r"^read_only=True: ") as refused:
        minidocker.run(["true"], read_only=True, overlay=True)
    assert refused.value.value is True
    shared = NamespaceOptions.all().without_net()
    with pytest.raises(SpecError, match=r"^network='none': ") as refused:
        minidocker.run(["true"], network="none", namespaces=shared)
    assert refused.value.value == "none"


# --- unknown options ---------------------------------------------------------------------------

KNOWN = ["hostname", "domainname", "network", "namespaces", "read_only", "tmpfs"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("hostnme", "hostname"),
        ("host_name", "hostname"),
        ("readonly", "read_only"),
        ("net", "network"),
    ],
)
def test_the_error_for_an_unknown_option_suggests_the_nearest_name(name, nearest):
    error = unknown_option(name, "x", KNOWN)
    assert type(error) is SpecError
    assert (error.option, error.value) == (name, "x")
    assert str(error) == f"{name}='x': unknown option: did you mean {nearest!r}?"


def test_the_error_for_an_unknown_option_lists_all_options_if_none_is_near():
    assert str(unknown_option("zzz", 1, KNOWN)) == (
        "zzz=1: unknown option: the options are "
        "domainname, hostname, namespaces, network, read_only, tmpfs"
    )
