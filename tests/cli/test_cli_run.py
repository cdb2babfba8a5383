"""``minidocker run``: exit statuses, streams, signals and options."""

import os
import pwd
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import version

import pytest

import minidocker
from support.command_line import CLI, READY_THEN_SLEEP, TIMEOUT, captured, cli, start
from support.rootfs import make_rootfs


def out(*arguments: str, **options) -> str:
    done = cli("run", *arguments, **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_the_hostname_is_the_containers_and_not_the_hosts():
    before = socket.gethostname()
    assert out("--hostname", "mycontainer", "hostname") == "mycontainer\n"
    assert out("-h", "mycontainer", "hostname") == "mycontainer\n"
    assert socket.gethostname() == before


def test_options_of_the_command_are_the_commands():
    assert out("echo", "-n", "--hostname", "x", "--", "-it") == "--hostname x -- -it"
    assert out("--", "echo", "--", "a") == "-- a\n"


@pytest.mark.smoke
@pytest.mark.parametrize("status", [0, 1, 42, 125, 255])
def test_the_exit_status_is_the_commands_own(status):
    assert cli("run", "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("init", [(), ("--init",)], ids=["as PID 1", "below init"])
def test_a_command_that_a_signal_ended_has_status_128_and_the_signals_number(init):
    with start("run", *init, *READY_THEN_SLEEP) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.wait(TIMEOUT) == 128 + signal.SIGUSR1


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["no-such-command"], 127, ["no-such-command", "No such file"]),
        (["/no/such/command"], 127, ["/no/such/command", "No such file"]),
        (["/etc/passwd"], 126, ["/etc/passwd", "Permission denied"]),
        (["/"], 126, ["'/'", "Permission denied"]),
        (["--workdir", "/no/such/place", "true"], 125, ["/no/such/place", "No such file"]),
        (["--hostname", "x" * 65, "true"], 125, ["hostname", "64"]),
        (["--uts", "host", "--hostname", "x", "true"], 125, ["hostname"]),
        (["--network", "none", "--namespaces", "uts,user", "true"], 125, ["network"]),
        (["--hostnam", "x", "true"], 125, ["--hostnam", "did you mean --hostname?"]),
        (["--network", "bridge", "true"], 125, ["'bridge'", "none, host or container:PID"]),
        ([], 125, ["COMMAND is missing"]),
        (["-it"], 125, ["COMMAND is missing"]),
        ([""], 125, ["COMMAND is empty"]),
        (["--hostname"], 125, ["--hostname needs a value"]),
    ],
)
def test_a_failure_is_one_line_that_names_its_cause(arguments, status, words):
    done = cli("run", *arguments)
    assert done.returncode == status
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("minidocker: ")
    for word in words:
        assert word in line


def test_a_command_line_without_a_command_lists_the_commands():
    done = cli()
    assert done.returncode == 125
    assert "run " in done.stderr
    assert cli("--help").stdout == done.stderr
    wrong = cli("rum")
    assert wrong.returncode == 125
    assert wrong.stderr == "minidocker: unknown command rum; did you mean run?\n"


def test_options_come_after_the_word_run():
    done = cli("--hostname", "lab", "true")
    message = (
        "minidocker: --hostname comes before the command; options follow it, as in: minidocker run "
        "--hostname mycontainer hostname\n"
    )
    assert (done.returncode, done.stderr) == (125, message)


def test_help_may_be_asked_for_as_in_docker():
    assert cli("help").stdout == cli("-h").stdout == cli("--help").stdout
    assert cli("help", "run").stdout == cli("run", "--help").stdout
    assert cli("-v").stdout == cli("--version").stdout


def test_every_command_has_help():
    for name in ("run", "exec", "ps", "inspect", "explain", "doctor", "completion"):
        done = cli(name, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(f"Usage: minidocker {name}")
        assert done.stderr == ""


def test_the_version_is_the_packages():
    assert cli("--version").stdout == f"minidocker {version('minidocker')}\n"


def test_the_console_script_is_the_same_program():
    script = os.path.join(os.path.dirname(sys.executable), "minidocker")
    done = captured([script, "run", "-h", "lab", "hostname"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "lab\n", "")


# --- streams -------------------------------------------------------------------------------------


def test_without_i_standard_input_is_empty():
    assert out("cat", input="not for it\n") == ""


def test_with_i_standard_input_goes_through_byte_by_byte():
    data = bytes(range(256)) * 4096
    done = cli("run", "-i", "cat", input=data, text=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")


def test_standard_output_and_error_stay_apart():
    done = cli("run", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_a_standard_stream_may_be_closed():
    done = captured(["sh", "-c", f"{shlex.join(CLI)} run echo hello <&- 2>&-"])
    assert (done.returncode, done.stdout) == (0, "hello\n")
    done = captured(["sh", "-c", f"{shlex.join(CLI)} run true >&-"])
    assert (done.returncode, done.stderr) == (0, "")


# --- signals -------------------------------------------------------------------------------------

FORWARDED = [
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGRTMIN + 3,
]


@pytest.mark.parametrize("signum", FORWARDED)
@pytest.mark.parametrize("shared", [(), ("--pid", "host"), ("--init",)])
def test_a_signal_that_the_command_does_not_handle_ends_it(signum, shared, survivors):
    with start("run", *shared, *READY_THEN_SLEEP, env=survivors.env) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signum)
        assert process.wait(TIMEOUT) == 128 + signum


def test_a_signal_reaches_a_command_that_handles_it_and_its_status_counts():
    script = "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    with start("run", "sh", "-c", script) as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.read() == "got it\n"
        assert process.wait(TIMEOUT) == 3


@pytest.mark.parametrize("shared", [(), ("--pid", "host"), ("--init",)])
def test_the_third_sigint_kills_the_command(shared, survivors):
    script = "trap 'echo no' INT; echo ready; while :; do sleep 0.05; done"
    with start("run", *shared, "sh", "-c", script, env=survivors.env) as process:
        assert process.stdout.readline() == "ready\n"
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "no\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 128 + signal.SIGKILL


def test_a_pipeline_in_the_callers_pid_namespace_ends_with_its_shell(survivors):
    script = "echo ready; sleep 100; echo not reached"
    # Not dash, which handles a signal late that arrives while it starts a program.
    with start("run", "--pid", "host", "bash", "-c", script, env=survivors.env) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130
        assert process.stdout.read() == ""


def test_a_signal_that_the_caller_ignores_stays_ignored():
    with subprocess.Popen(
        ["sh", "-c", f"trap '' HUP; exec {shlex.join([*CLI, 'run', *READY_THEN_SLEEP])}"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        # The pending signal with the lower number acts first: SIGHUP would give 129.
        assert process.wait(TIMEOUT) == 143


def test_the_container_ends_when_minidocker_is_killed(survivors):
    with start("run", *READY_THEN_SLEEP, env=survivors.env) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
        process.wait()
        survivors.wait_until_gone()


def test_no_die_with_parent_lets_the_container_live_on(survivors):
    arguments = ("run", "--no-die-with-parent", *READY_THEN_SLEEP)
    with start(*arguments, env=survivors.env) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
        process.wait()
        # Give a wrong implementation time to end it: no event shows that it will not.
        time.sleep(0.5)
        survivors.wait_until_found()
        survivors.kill()


def test_a_container_that_takes_too_long_is_killed(survivors):
    begin = time.monotonic()
    done = cli("run", "--timeout", "0.5", "sleep", "100", env=survivors.env)
    assert 0.4 < time.monotonic() - begin < 60
    assert done.returncode == 137
    assert done.stderr == "minidocker: killed after 0.5 s (--timeout)\n"
    assert cli("run", "--timeout", "30", "true").returncode == 0


def test_a_timeout_may_be_longer_than_a_wait_of_the_kernel():
    for seconds in ("2592000", "1e12", "inf"):
        assert cli("run", "--timeout", seconds, "true").returncode == 0


# --- options -------------------------------------------------------------------------------------


def test_the_option_e_adds_to_the_callers_environment():
    environment = {**os.environ, "KEPT": "1", "CHANGED": "old"}
    shown = out("-e", "CHANGED=new=2", "--env", "ADDED=", "env", env=environment).splitlines()
    assert {"KEPT=1", "CHANGED=new=2", "ADDED="} <= set(shown)


def test_clearenv_leaves_only_the_named_variables():
    environment = {**os.environ, "WANTED": "caller's", "OTHER": "x"}
    options = ("--clearenv", "-eWANTED", "-e=A=1", "-e", "NOT_SET_BY_THE_CALLER")
    shown = out(*options, "/usr/bin/env", env=environment)
    assert sorted(shown.splitlines()) == ["A=1", "WANTED=caller's"]


def test_the_option_e_overrides_an_environment_file(tmp_path):
    file = tmp_path / "settings"
    file.write_text("# a comment\n\nA=from file\n  B=with # sign \nC=1\nPASSED\n")
    environment = {**os.environ, "PASSED": "on"}
    options = ("--clearenv", "-e", "A=from option", "--env-file", str(file))
    shown = out(*options, "/usr/bin/env", env=environment)
    assert sorted(shown.splitlines()) == ["A=from option", "B=with # sign ", "C=1", "PASSED=on"]


def test_the_working_directory_is_one_inside(tmp_path):
    assert out("-w", "/usr", "pwd") == "/usr\n"
    assert out("pwd", cwd="/usr/bin") == "/usr/bin\n"


def test_the_command_is_root_inside_or_the_given_user():
    assert out("id", "-u") == "0\n"
    assert out("-u", "12345" if os.geteuid() == 0 else str(os.geteuid()), "id", "-u") in (
        "12345\n",
        f"{os.geteuid()}\n",
    )


@pytest.mark.root(reason="a plain caller can map only one id")
def test_the_user_and_group_may_be_names():
    assert out("-u", "nobody:daemon", "sh", "-c", "id -un; id -gn") == "nobody\ndaemon\n"


def test_a_user_given_by_name_has_its_primary_group():
    name = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else "nobody"
    account = pwd.getpwnam(name)
    found = out("-u", name, "sh", "-c", "id -u; id -g")
    assert found == f"{account.pw_uid}\n{account.pw_gid}\n"


def test_a_user_given_by_number_has_the_primary_group_of_its_name():
    account = pwd.getpwuid(os.geteuid()) if os.geteuid() else pwd.getpwnam("nobody")
    found = out("-u", str(account.pw_uid), "sh", "-c", "id -u; id -g")
    assert found == f"{account.pw_uid}\n{account.pw_gid}\n"


@pytest.mark.root(reason="a plain caller can map only one id")
@pytest.mark.parametrize(
    ("user", "ids"),
    [("worker", "31\n32\n"), ("31", "31\n32\n"), ("77", "77\n0\n"), ("31:5", "31\n5\n")],
)
def test_the_primary_group_is_that_of_the_containers_own_files(tmp_path, user, ids):
    rootfs = make_rootfs(tmp_path / "root")
    (rootfs / "etc").mkdir(exist_ok=True)
    (rootfs / "etc/passwd").write_text("worker:x:31:32::/:/bin/sh\n")
    show = ("sh", "-c", "id -u; id -g")
    assert out("--rootfs", str(rootfs), "-u", user, *show) == ids
    with minidocker.Container(rootfs=rootfs) as box:
        done = cli("exec", "-u", user, str(box.pid), *show)
    assert (done.stdout, done.stderr) == (ids, "")


def test_ids_of_thousands_of_digits_in_a_containers_files_are_ignored(tmp_path):
    rootfs = make_rootfs(tmp_path / "root")
    (rootfs / "etc").mkdir(exist_ok=True)
    (rootfs / "etc/passwd").write_text("worker:x:" + "9" * 5000 + ":0::/:/bin/sh\n")
    done = cli("run", "--rootfs", str(rootfs), "-u", "worker", "true")
    assert (done.returncode, done.stderr.count("\n")) == (125, 1)


@pytest.mark.parametrize("command", ["run", "explain"])
@pytest.mark.parametrize(
    "user",
    ["nosuch", "root:nosuch", "-1", "0x10", "4294967296", "5:99999999999999999999", "9" * 5000],
)
def test_an_impossible_user_is_refused_in_one_line(command, user):
    done = cli(command, f"--user={user}", "true")
    assert done.returncode == 125
    assert done.stderr.startswith("minidocker: ")
    assert done.stderr.count("\n") == 1


def test_a_removed_directory_is_reported_in_one_line(tmp_path):
    script = 'mkdir gone; cd gone; rmdir ../gone; exec "$@"'
    command = [*CLI, "run", "-v", "./x:/data", "true"]
    shell = ["sh", "-c", script, "sh", *command]
    done = subprocess.run(shell, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 125
    assert "./x:/data" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_is_process_1_or_below_a_tiny_init():
    assert out("sh", "-c", "echo $$") == "1\n"
    assert out("--init", "sh", "-c", "echo $$ $PPID").split()[1] == "1"
    assert out("--pid", "host", "sh", "-c", "echo $$") != "1\n"


KINDS = {
    "pid": "pid",
    "net": "net",
    "mount": "mnt",
    "uts": "uts",
    "ipc": "ipc",
    "user": "user",
    "cgroup": "cgroup",
}


def differing(*options: str) -> set[str]:
    shown = out(*options, "sh", "-c", "readlink /proc/self/ns/*").splitlines()
    own = {os.readlink(f"/proc/self/ns/{link}") for link in [*KINDS.values(), "time"]}
    names = {link: kind for kind, link in KINDS.items()}
    changed = {line.partition(":")[0] for line in shown if line not in own}
    return {names.get(link, link) for link in changed}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), set(KINDS)),
        (("--namespaces", "all"), set(KINDS)),
        (("--namespaces", "uts,user"), {"uts", "user"}),
        (("--namespaces", "none"), set()),
        (("--namespaces", "all,time"), {*KINDS, "time"}),
        (("--pid", "host"), set(KINDS) - {"pid"}),
        (("--uts", "host", "--ipc", "host"), set(KINDS) - {"uts", "ipc"}),
        (("--cgroupns", "host"), set(KINDS) - {"cgroup"}),
        (("--network", "host"), set(KINDS) - {"net"}),
        (("--time-offset", "boottime=5"), {*KINDS, "time"}),
    ],
)
def test_the_new_namespaces_are_the_requested_ones(options, expected):
    assert differing(*options) == expected


@pytest.mark.root(reason="other namespaces need a user namespace, or root")
def test_root_can_share_its_user_namespace():
    assert differing("--userns", "host") == set(KINDS) - {"user"}


def test_a_namespace_cannot_be_both_requested_and_shared():
    done = cli("run", "--namespaces", "pid,user", "--pid", "host", "true")
    assert done.returncode == 125
    assert "--namespaces requests a new pid namespace and --pid host" in done.stderr


@pytest.mark.smoke
def test_the_network_is_loopback_only_or_the_callers():
    assert _interfaces(out("cat", "/proc/net/dev")) == {"lo"}
    with open("/proc/net/dev", encoding="ascii") as file:
        own = _interfaces(file.read())
    assert _interfaces(out("--network", "host", "cat", "/proc/net/dev")) == own


def _interfaces(table: str) -> set[str]:
    return set(re.findall(r"^ *(\S+):", table, re.MULTILINE))


def test_id_maps_are_the_given_ones():
    uid, gid = os.geteuid(), os.getegid()
    options = ("--uidmap", f"7:{uid}:1", "--gidmap", f"8:{gid}:1", "--user", "7:8")
    assert out(*options, "sh", "-c", "id -u; id -g").split() == ["7", "8"]


def test_a_clock_is_set_forward():
    code = "cut -d. -f1 /proc/uptime"
    with open("/proc/uptime", encoding="ascii") as file:
        own = float(file.read().split()[0])
    shown = int(out("--time-offset", "boottime=1000000", "sh", "-c", code))
    assert 0 <= shown - own - 1_000_000 < 60 or abs(shown - own - 1_000_000) < 2


def test_the_domain_name_is_the_containers():
    command = ("cat", "/proc/sys/kernel/domainname")
    assert out("--domainname", "example.org", *command) == "example.org\n"


# --- explain -------------------------------------------------------------------------------------


def test_explain_prints_each_finished_step_and_the_exit_status():
    done = cli("run", "--explain", "--hostname", "lab", "sh", "-c", "echo out; exit 4")
    assert done.returncode == 4
    assert done.stdout == "out\n"
    lines = done.stderr.splitlines()
    first, last = (
        next(number for number, line in enumerate(lines) if text in line)
        for text in ("clone(0x", "execve(")
    )
    hostname = next(number for number, line in enumerate(lines) if 'sethostname("lab"' in line)
    assert first < hostname < last
    assert "CLONE_NEWUTS" in lines[first]
    assert lines[-1] == "exit status 4"


def test_explain_distinguishes_a_signal_from_a_status():
    with start("run", "--explain", *READY_THEN_SLEEP, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr.read().splitlines()[-1] == "ended by SIGTERM: exit status 143"
