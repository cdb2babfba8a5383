"""Confinement, seen from inside: profiles, capabilities, the seccomp filter, limits."""

import errno
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions, Seccomp, SpecError
from support.child import in_child
from support.launches import Launch, run_by

DOCKER = 0xA80425FB
CHOWN, NET_ADMIN, SYS_ADMIN = (1 << bit for bit in (0, 12, 21))
EVERY = (1 << int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1) - 1
ROOT = os.geteuid() == 0

# Makes each system call, and prints its errno or 0.
ASK = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
for line in sys.argv[1:]:
    result = libc.syscall(*(ctypes.c_long(int(word)) for word in line.split()))
    print(ctypes.get_errno() if result < 0 else 0)
"""
GETCPU, MOUNT, UNSHARE, KEYCTL, PTRACE, CLONE3, UMASK = 309, 165, 272, 250, 101, 435, 95
NEW_USER = 0x10000000

x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of x86-64")


def run(*args, **options):
    return minidocker.run(args, capture_output=True, text=True, check=True, **options)


def status(start=minidocker.run, **options):
    """Return the fields of /proc/self/status inside."""
    done = start(
        ["cat", "/proc/self/status"], capture_output=True, text=True, check=True, **options
    )
    return dict(line.split(":\t", 1) for line in done.stdout.splitlines())


def capabilities(**options):
    """Return a command's inheritable, permitted, effective, bounding and ambient set."""
    fields = status(**options)
    return tuple(int(fields[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb"))


def answers(*calls, **options):
    """Return the errno, or 0, of each system call inside; a call is a sequence of numbers."""
    lines = [" ".join(map(str, call)) for call in calls]
    return [int(word) for word in run(sys.executable, "-c", ASK, *lines, **options).stdout.split()]


# --- profiles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize(
    ("profile", "sets", "no_new_privileges", "filters"),
    [("namespaces", EVERY, 1, 0), ("docker", DOCKER, 0, 2), ("untrusted", 0, 1, 2)],
)
def test_a_profile_sets_a_commands_rights(profile, sets, no_new_privileges, filters, init):
    fields = status(profile=profile, init=init)
    found = [int(fields[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
    assert found == [0, sets, sets, sets, 0]
    assert int(fields["NoNewPrivs"]) == no_new_privileges
    assert int(fields["Seccomp"]) == filters
    # The caller stays unconfined.
    own = Path("/proc/self/status").read_text()
    assert "Seccomp:\t0" in own
    assert "NoNewPrivs:\t0" in own


def test_a_command_that_enters_a_container_is_confined_like_it():
    with minidocker.Container(profile="untrusted") as box:
        assert status(box.run)["Seccomp"] == "2"
        assert capabilities(start=box.run) == (0, 0, 0, 0, 0)
        assert status(box.run, profile="namespaces")["Seccomp"] == "0"
        attached = minidocker.attach(box.pid)
        assert status(attached.run)["Seccomp"] == "0"
        assert status(attached.run, profile="docker")["Seccomp"] == "2"
        attached.close()


def test_a_confined_command_is_in_a_session_of_its_own():
    for profile in ("docker", "untrusted"):
        done = run("sh", "-c", "echo $$; ps -o sid= -p $$", profile=profile)
        pid, session = done.stdout.split()
        assert pid == session
        with pytest.raises(SpecError, match="session of its own"):
            run(
                "true",
                profile=profile,
                start_new_session=False,
                namespaces=NamespaceOptions.all().without_pid(),
            )


# --- capabilities --------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.needs("devices")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"cap_drop": ["ALL"]}, 0),
        ({"cap_drop": ["CAP_SYS_ADMIN"]}, EVERY & ~SYS_ADMIN),
        ({"cap_drop": ["all"], "cap_add": ["net_admin"]}, NET_ADMIN),
        ({"profile": "docker", "cap_add": ["NET_ADMIN"]}, DOCKER | NET_ADMIN),
        ({"profile": "docker", "cap_drop": ["CHOWN"]}, DOCKER & ~CHOWN),
        ({"profile": "untrusted", "cap_add": ["NET_ADMIN"]}, NET_ADMIN),
        ({"profile": "docker", "no_new_privileges": True}, DOCKER),
    ],
)
def test_capabilities_are_added_and_dropped_in_every_set(options, expected):
    assert capabilities(**options) == (0, expected, expected, expected, 0)


def test_a_command_fails_without_a_capability_that_it_needs():
    assert run("hostname", "lab").returncode == 0
    with pytest.raises(subprocess.CalledProcessError):
        run("hostname", "lab", cap_drop=["SYS_ADMIN"])


@pytest.mark.root(reason="needs ids that are not the caller's")
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_user_other_than_root_has_no_capability(no_new_privileges):
    sets = capabilities(profile="docker", user=1234, no_new_privileges=no_new_privileges)
    assert sets == (0, 0, 0, DOCKER, 0)


@pytest.mark.root(reason="only root has capabilities to pass on")
def test_a_command_gets_no_inheritable_or_ambient_capabilities():
    # CVE-2022-27650: a process regains an inheritable capability from a file that has it too.
    script = (
        "import minidocker, sys; shared = minidocker.NamespaceOptions.all().without_user();"
        "words = ['grep', '^Cap', '/proc/self/status'];"
        "minidocker.run(words, namespaces=shared, **eval(sys.argv[1]))"
    )
    words = [
        "setpriv",
        "--inh-caps=+net_raw",
        "--ambient-caps=+net_raw",
        sys.executable,
        "-c",
        script,
    ]

    def sets(options):
        lines = subprocess.check_output([*words, repr(options)], text=True).splitlines()
        return {line.split(":")[0]: int(line.split()[1], 16) for line in lines}

    assert sets({})["CapAmb"] != 0, "the positive control: without a profile they are inherited"
    docker = sets({"profile": "docker"})
    assert (docker["CapInh"], docker["CapAmb"], docker["CapBnd"]) == (0, 0, DOCKER)


# --- the filter ----------------------------------------------------------------------------------


@pytest.mark.smoke
@x86_64
def test_only_a_denied_call_fails():
    filtered = {"seccomp": Seccomp(deny=["getcpu", "umask"])}
    assert answers((GETCPU, 0, 0, 0), (UMASK, 0o22)) == [0, 0]
    assert answers((GETCPU, 0, 0, 0), (UMASK, 0o22), **filtered) == [errno.EPERM] * 2
    assert answers((KEYCTL, 99), **filtered) != [errno.EPERM]


@x86_64
def test_lists_adjust_the_filter_of_the_profile():
    ask = (GETCPU, 0, 0, 0), (UNSHARE, NEW_USER), (CLONE3, 0, 0)
    assert answers(*ask, profile="docker") == [0, errno.EPERM, errno.ENOSYS]
    adjusted = Seccomp(deny=["getcpu"], allow=["unshare", "clone3"])
    found = answers(*ask, profile="docker", seccomp=adjusted)
    assert found[0] == errno.EPERM
    assert found[1] == 0
    assert found[2] not in (0, errno.ENOSYS)


@x86_64
def test_a_filter_depends_on_the_capabilities():
    mount = (MOUNT, 0, 0, 0, 0, 0)
    assert answers(mount, profile="docker") == [errno.EPERM]
    assert answers(mount, profile="docker", cap_add=["SYS_ADMIN"]) == [errno.EFAULT]
    assert answers(mount, profile="docker", seccomp="unconfined") == [errno.EFAULT]


@x86_64
@pytest.mark.parametrize("form", ["mapping", "path", "str", "base"])
def test_a_filter_in_dockers_format(form, tmp_path):
    document = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getcpu"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}],
    }
    file = tmp_path / "filter.json"
    file.write_text(json.dumps(document))
    seccomp = {
        "mapping": document,
        "path": file,
        "str": str(file),
        "base": Seccomp(base=document, deny=["umask"]),
    }[form]
    expected = [77, errno.EPERM if form == "base" else 0]
    assert answers((GETCPU, 0, 0, 0), (UMASK, 0o22), seccomp=seccomp) == expected


@x86_64
def test_on_denied_decides_whether_a_denied_call_kills():
    words = [sys.executable, "-c", ASK, f"{GETCPU} 0 0 0"]
    for options in (
        {"seccomp": Seccomp(deny=["getcpu"], on_denied="kill")},
        {"seccomp": Seccomp(deny=["getcpu"], on_denied="kill"), "init": True},
    ):
        done = minidocker.run(words, capture_output=True, **options)
        assert done.returncode == -signal.SIGSYS
    log = {"seccomp": Seccomp(deny=["getcpu"], on_denied="log")}
    assert answers((GETCPU, 0, 0, 0), **log) == [errno.EPERM]


def test_a_filter_with_the_base_deny_allows_only_the_listed_calls(noop):
    only = Seccomp(base="deny", allow=["execve", "exit", "exit_group"], on_denied="kill")
    assert minidocker.run([noop], seccomp=only).returncode == 0
    assert minidocker.run(["true"], seccomp=only).returncode == -signal.SIGSYS


def test_a_command_that_does_not_exist_is_reported_under_a_filter():
    for init in (False, True):
        with pytest.raises(minidocker.CommandNotFound):
            run("no-such-command", profile="untrusted", init=init)


# --- limits --------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize(
    "ulimits",
    [
        {"nofile": (100, 200), "core": 0},
        [{"name": "nofile", "soft": 100, "hard": 200}, {"Name": "core", "Soft": 0}],
    ],
)
def test_limits_hold_inside_and_not_outside(ulimits):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    done = run("sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -Hc", ulimits=ulimits)
    assert done.stdout.split() == ["100", "200", "0"]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


LOWERED = {
    "core": 0,
    "nofile": 4096,
    "nproc": 4096,
    "memlock": 4 << 20,
    "msgqueue": 409600,
    "sigpending": 1024,
    "rtprio": 0,
    "nice": 0,
}

READ_LIMITS = f"""
import json, resource
print(json.dumps({{
    name: resource.getrlimit(getattr(resource, "RLIMIT_" + name.upper()))
    for name in {list(LOWERED)}
}}))
"""


def number_of(name):
    return getattr(resource, f"RLIMIT_{name.upper()}")


def limits_inside(**options):
    return json.loads(run(sys.executable, "-c", READ_LIMITS, profile="untrusted", **options).stdout)


def at_most(limit, most):
    """Return the lower limit; -1 is none."""
    return most if limit == resource.RLIM_INFINITY else min(limit, most)


def test_a_profile_lowers_limits_and_never_raises_them():
    outside = {name: resource.getrlimit(number_of(name)) for name in LOWERED}
    expected = {
        name: [at_most(limit, LOWERED[name]) for limit in limits]
        for name, limits in outside.items()
    }
    assert limits_inside() == expected
    own = {"nofile": 50, "memlock": 65536, "sigpending": (3, 1500), "nice": 0}
    given = {
        name: list(value) if isinstance(value, tuple) else [value] * 2
        for name, value in own.items()
    }
    assert limits_inside(ulimits=own) == {**expected, **given}
    assert {name: resource.getrlimit(number_of(name)) for name in LOWERED} == outside


def test_a_caller_with_lower_limits_keeps_them():
    lower = {"nofile": 90, "nproc": 4000, "memlock": 0, "msgqueue": 0, "sigpending": 2}

    def check():
        for name, value in lower.items():
            resource.setrlimit(number_of(name), (value, value))
        return limits_inside()

    found = in_child(check)
    assert {name: found[name] for name in lower} == {
        name: [value] * 2 for name, value in lower.items()
    }


USE_LIMITS = """
import ctypes, errno, json, mmap, os, signal
libc = ctypes.CDLL(None, use_errno=True)

def timers():
    made = ctypes.c_void_p()
    for count in range(2000):
        if libc.timer_create(0, None, ctypes.byref(made)) != 0:
            return count, errno.errorcode[ctypes.get_errno()]

def locked():
    memory = mmap.mmap(-1, 8 << 20)
    at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return [libc.mlock(ctypes.c_void_p(at), size << 20) for size in (3, 5)]

def nicer():
    try:
        os.nice(-1)
    except OSError as error:
        return errno.errorcode[error.errno]

print(json.dumps([timers(), locked(), nicer()]))
"""


def test_the_lowered_limits_bind_the_code_inside():
    timers, locked, nicer = json.loads(
        run(sys.executable, "-c", USE_LIMITS, profile="untrusted").stdout
    )
    assert timers == [1024, "EAGAIN"]
    assert locked == [0, -1]
    assert nicer in ("EPERM", "EACCES")


def test_a_hard_limit_above_the_callers_is_refused_by_the_kernel(leaks):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with pytest.raises(minidocker.PermissionDenied) as caught:
        run("true", ulimits={"nofile": hard + 1})
    assert caught.value.step == "ulimits"
    assert "ulimit" in caught.value.hint


FORK = """
import os, time
for number in range(60):
    try:
        if os.fork() == 0:
            time.sleep(100)
    except OSError:
        break
print(number)
"""


@pytest.mark.plain(reason="root is exempt from RLIMIT_NPROC")
def test_a_fork_bomb_ends_at_the_limit_of_processes():
    assert int(run(sys.executable, "-c", FORK, profile="docker", ulimits={"nproc": 20}).stdout) < 25


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "option", "words"),
    [
        ({"profile": "untrustd"}, "profile", 'Did you mean "untrusted"?'),
        ({"profile": 3}, "profile", "it is of type int"),
        ({"cap_add": ["NET_ADMN"]}, "cap_add", 'Did you mean "NET_ADMIN"?'),
        ({"cap_drop": "ALL"}, "cap_drop", "give a list"),
        ({"cap_drop": [1]}, "cap_drop", "1 is not a name"),
        ({"no_new_privileges": "yes"}, "no_new_privileges", "True or False"),
        ({"seccomp": Seccomp(deny=["ptrac"])}, "seccomp", 'Did you mean "ptrace"?'),
        ({"seccomp": Seccomp(deny=["read"], allow=["read"])}, "seccomp", "one of the two lists"),
        ({"seccomp": Seccomp(allow=["read"])}, "seccomp", "allowed already"),
        ({"seccomp": Seccomp(on_denied="kill")}, "seccomp", "has no filter"),
        ({"seccomp": Seccomp(base="deny")}, "seccomp", "Allow execve"),
        ({"seccomp": Seccomp(base="no/such")}, "seccomp", "No such file"),
        ({"seccomp": "unconfned"}, "seccomp", "No such file"),
        ({"seccomp": 3}, "seccomp", "it is of type int"),
        ({"seccomp": {"defaultAction": "SCMP_ACT_ALOW"}}, "seccomp", "SCMP_ACT_ALLOW"),
        ({"seccomp": {"defaultaction": "SCMP_ACT_ALLOW"}}, "seccomp", "defaultAction"),
        ({"seccomp": {"defaultAction": object()}}, "seccomp", "JSON"),
        ({"ulimits": {"nofiles": 3}}, "ulimits", 'Did you mean "nofile"?'),
        ({"ulimits": {"nofile": (4, 3)}}, "ulimits", "above the hard"),
        ({"ulimits": {"nofile": "many"}}, "ulimits", "give an int"),
        ({"ulimits": [{"nam": "nofile"}]}, "ulimits", "'nam' is not a key"),
        ({"ulimits": [{"name": "core", "soft": 0}] * 2}, "ulimits", "given twice"),
        ({"ulimits": 3}, "ulimits", "it is of type int"),
    ],
)
def test_a_wrong_option_is_named_before_the_launch(options, option, words, leaks):
    with pytest.raises(SpecError) as caught:
        run("true", **options)
    assert caught.value.option == option
    assert words in str(caught.value)


@pytest.mark.parametrize("missing", ["/no/such/filter.json", "/etc"])
def test_the_error_for_a_filter_names_its_file_once(missing):
    for seccomp in (missing, Path(missing), Seccomp(base=missing)):
        with pytest.raises(SpecError) as caught:
            run("true", seccomp=seccomp)
        assert str(caught.value).count(missing) == 1, str(caught.value)


def test_the_constructor_of_seccomp_refuses_a_wrong_value():
    for options in ({"on_denied": "warn"}, {"base": 3}, {"deny": "ptrace"}):
        with pytest.raises(SpecError):
            Seccomp(**options)


def test_a_spec_with_every_confining_option_can_be_pickled():
    spec = minidocker.Spec(
        profile="docker",
        cap_add=["NET_ADMIN"],
        cap_drop=["CHOWN"],
        seccomp=Seccomp(deny=["getcpu"]),
        ulimits={"core": 0},
    )
    assert run("true", spec=spec).returncode == 0
    again = pickle.loads(pickle.dumps(spec))
    assert again == spec
    assert capabilities(spec=again)[1] == DOCKER & ~CHOWN | NET_ADMIN


# --- the plan ------------------------------------------------------------------------------------


def test_the_default_profile_adds_no_calls():
    plan = minidocker.explain(["/bin/true"])
    steps = [call.step for call in plan]
    assert {"capabilities", "seccomp", "landlock", "ulimits"}.isdisjoint(steps)


def test_a_plan_shows_capabilities_by_name_and_the_length_of_the_filter():
    text = str(minidocker.explain(["/bin/true"], profile="docker", cap_drop=["CHOWN"]))
    assert "PR_CAPBSET_DROP, [all but CAP_DAC_OVERRIDE CAP_FOWNER" in text
    assert "seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=" in text
    text = str(minidocker.explain(["/bin/true"], ulimits={"nofile": (1, -1)}))
    assert "RLIMIT_NOFILE, {rlim_cur=1, rlim_max=RLIM64_INFINITY}" in text


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("profile", ["docker", "untrusted"])
def test_a_failure_at_any_step_leaves_nothing(profile, init, leaks, survivors):
    spec = minidocker.Spec(profile=profile, init=init, ulimits={"core": 0})
    count = len(minidocker.explain(["/bin/true"], spec=spec))
    failed = set()
    for number in range(count):
        launch = Launch(inject=(number, errno.EXDEV))
        try:
            run_by(launch, ["/bin/true"], spec=spec, env=survivors.env)
        except minidocker.SpawnError as error:
            failed.add((error.step, error.errno))
    assert {errno.EXDEV} == {number for _, number in failed}
    assert {"capabilities", "seccomp", "ulimits"} <= {step for step, _ in failed}
