"""Attempts from inside on the processes that enter a container, and on its init."""

import pytest

import minidocker
from support.attack import PRELUDE, PROFILES, attack, interpreter

pytestmark = pytest.mark.parametrize("profile", PROFILES)

# Attacks each process that enters, until standard input ends, and reports its finds.
HUNTER = """
import select
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 17, 0x4206, 0x4207, 0x40000000
SELF, SECRET = os.getpid(), sys.argv[1].encode()
seen, got = {}, set()
print("ready", flush=True)
more = True
while more:
    # One more round after the last command has entered.
    more = not select.select([0], [], [], 0)[0]
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == SELF:
            continue
        pid = int(name)
        seen[pid] = seen.get(pid, 0) + 1
        try:
            executable = os.open(f"/proc/{pid}/exe", os.O_PATH)
            image = os.readlink(f"/proc/self/fd/{executable}")
            if "minidocker" in image:
                got.add(f"the helper's program {image}")
                try:
                    writable = os.open(f"/proc/self/fd/{executable}", os.O_WRONLY)
                    os.pwrite(writable, b"", 0)
                    got.add(f"the helper's program to write to")
                    os.close(writable)
                except OSError:
                    pass
            os.close(executable)
        except OSError:
            pass
        for file in ("environ", "mem", "maps", "root", "cwd", "fd"):
            try:
                path = f"/proc/{pid}/{file}"
                if file in ("root", "cwd"):
                    os.readlink(path)
                elif file == "fd":
                    # The numbers alone are not a secret.
                    for number in os.listdir(path):
                        os.readlink(f"{path}/{number}")
                else:
                    content = os.open(path, os.O_RDONLY)
                    if file == "environ" and SECRET in os.read(content, 1 << 20):
                        got.add("the secret")
                    os.close(content)
                with open(f"/proc/{pid}/comm") as comm:
                    got.add(f"{file} of {comm.read().strip()}")
            except OSError:
                pass
        try:
            # Not PTRACE_ATTACH, whose SIGSTOP may outlast it.
            call("ptrace", PTRACE_SEIZE, pid, 0, 0)
            call("ptrace", PTRACE_INTERRUPT, pid, 0, 0)
            os.waitpid(pid, WALL)
            with open(f"/proc/{pid}/comm") as comm:
                got.add(f"traced {comm.read().strip()}")
            call("ptrace", PTRACE_DETACH, pid, 0, 0)
        except OSError:
            pass
for what in sorted(got):
    print("got:", what, flush=True)
print(f"seen {len(seen)}", flush=True)
"""


def hunt(box, rounds):
    """Return the finds of a hunter inside while commands enter, and how many processes it saw."""
    words = [interpreter(), "-I", "-S", "-c", PRELUDE + HUNTER, "the-secret"]
    with box.popen(words, stdin=-1, stdout=-1, text=True) as hunter:
        assert hunter.stdout.readline() == "ready\n"
        for _ in range(rounds):
            # The secret is in the caller's memory and environment; the command gets another one.
            box.run(["true"], check=True, env={"PATH": "/usr/bin:/bin"})
        output, _ = hunter.communicate("stop\n", timeout=60)
    lines = output.splitlines()
    seen = int(lines[-1].removeprefix("seen "))
    return {line.removeprefix("got: ") for line in lines[:-1]}, seen


def test_cve_2016_9962_2019_5736_the_joiner_can_be_neither_traced_nor_read_nor_overwritten(
    profile, monkeypatch
):
    monkeypatch.setenv("SECRET", "the-secret")
    with minidocker.Container(profile=profile) as box:
        got, seen = hunt(box, 50)
        assert seen >= 2, "the hunter saw no process that entered"
        helpers = [what for what in got if "minidocker" in what]
        assert not helpers, got
        assert "the secret" not in got


def test_the_positive_control_the_hunter_can_trace_a_process_of_the_container(profile):
    with minidocker.Container() as box, box.popen(["sleep", "100"]) as sleeper:
        got, _ = hunt(box, 1)
        assert {"environ of sleep", "mem of sleep", "traced sleep"} <= got
        sleeper.kill()


def test_pid_1_is_out_of_reach(profile):
    code = """
for file in ("exe", "root", "cwd", "fd/0"):
    attempt(file, os.readlink, f"/proc/1/{file}")
attempt("mem", lambda: os.close(os.open("/proc/1/mem", os.O_RDWR)))
attempt("ptrace", lambda: call("ptrace", 16, 1, 0, 0))
"""
    with minidocker.Container(profile=profile) as box:
        outcome = attack(code, start=box.run)
        assert not outcome.escaped, str(outcome)
        assert len(outcome.held) == 6, str(outcome)
