"""Attempts to change processes outside in a shared PID namespace."""

import os
import subprocess

import pytest

import minidocker
from minidocker import Container, NamespaceOptions, attach
from support.attack import assert_held, attack, landlock_abi

WITHOUT_PID = NamespaceOptions.all().without_pid()

#: Changes without an effect, with the rights that others need, too: RLIMIT_CPU ends a process.
CHANGES = """
import resource
NUMBERS.update(
    ioprio_set=(251, 30), sched_getattr=(315, 275), sched_setattr=(314, 274),
    setpriority=(141, 140),
)
PROCESS, GROUP, BEST_EFFORT = 1, 2, 2 << 13 | 4

def prlimit(pid):
    kind = resource.RLIMIT_CPU
    resource.prlimit(pid, kind, resource.prlimit(pid, kind))

def setattr(pid):
    attributes = ctypes.create_string_buffer(56)
    call("sched_getattr", pid, attributes, 56, 0)
    call("sched_setattr", pid, attributes, 0)

def change(pid):
    attempt("prlimit", prlimit, pid)
    attempt("sched_setaffinity", lambda: os.sched_setaffinity(pid, os.sched_getaffinity(pid)))
    policy, parameters = os.sched_getscheduler(pid), os.sched_getparam(pid)
    attempt("sched_setscheduler", os.sched_setscheduler, pid, policy, parameters)
    attempt("sched_setparam", os.sched_setparam, pid, parameters)
    attempt("sched_setattr", setattr, pid)
    nice, group = os.getpriority(os.PRIO_PROCESS, pid), os.getpgid(pid)
    attempt("setpriority", os.setpriority, os.PRIO_PROCESS, pid, nice)
    attempt("setpriority of a group", os.setpriority, os.PRIO_PGRP, group, nice)
    attempt("ioprio_set", call, "ioprio_set", PROCESS, pid, BEST_EFFORT)
    attempt("ioprio_set of a group", call, "ioprio_set", GROUP, group, BEST_EFFORT)

def change_files(pid):
    for name in ("oom_score_adj", "coredump_filter", "autogroup", "clear_refs"):
        if os.path.exists(f"/proc/{pid}/{name}"):
            opens(f"/proc/{pid}/{name}", os.O_WRONLY)
"""
#: The kernel refuses both values, so the control changes no process of the user.
OF_A_USER = """
USER, INVALID_CLASS, PRIO_USER = 3, 7 << 13, 2
reaches("setpriority", PRIO_USER, 0, -20)
reaches("ioprio_set", USER, 0, INVALID_CLASS)
"""


@pytest.fixture
def victim():
    """Start a process of the caller outside, in a group of its own."""
    with subprocess.Popen(["sleep", "1000"], process_group=0) as process:
        yield process
        assert process.poll() is None, "the attempt has killed it"
        process.kill()


def of(victim, *, files=True):
    """Return the attempts to change that process and all processes of its user."""
    code = f"{CHANGES}\nchange({victim.pid}){OF_A_USER}"
    return f"{code}\nchange_files({victim.pid})" if files else code


def test_untrusted_code_changes_no_process_outside_in_a_shared_pid_namespace(victim):
    control = attack(of(victim), namespaces=WITHOUT_PID)
    assert len(control.escaped) > 13, str(control)
    assert not control.held, str(control)
    for options in ({}, {"overlay": True}):
        outcome = attack(of(victim), profile="untrusted", namespaces=WITHOUT_PID, **options)
        assert not outcome.escaped, str(outcome)
        assert len(outcome.held) == len(control.escaped), str(outcome)


def test_untrusted_code_that_enters_a_shared_pid_namespace_changes_no_process_either(victim):
    with Container(namespaces=WITHOUT_PID, profile="untrusted") as container:
        assert_held(of(victim), start=container.run)
    with minidocker.Popen(["sleep", "1000"], namespaces=WITHOUT_PID) as first:
        # This container has a writable /proc, which Landlock closes to the command.
        code = of(victim, files=landlock_abi() > 0)
        entered = attach(first.pid)
        assert attack(code, start=entered.run).escaped
        assert_held(code, start=entered.run, profile="untrusted")
        first.kill()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_function_in_a_shared_pid_namespace_changes_no_process_outside(method, victim):
    inside = minidocker.isolated(method=method, profile="untrusted", namespaces=WITHOUT_PID)
    processors = os.sched_getaffinity(victim.pid)
    with pytest.raises(PermissionError):
        inside(os.sched_setaffinity)(victim.pid, processors)
    assert inside(os.sched_setaffinity)(0, processors) is None


@pytest.mark.root(reason="a plain user needs the user namespace")
def test_without_a_user_namespace_untrusted_code_changes_no_process_outside(victim):
    namespaces = WITHOUT_PID.without_user()
    assert_held(of(victim), profile="untrusted", namespaces=namespaces)


def test_in_a_pid_namespace_of_its_own_untrusted_code_may_change_its_processes():
    code = (
        CHANGES
        + """
child = os.fork()
if child == 0:
    time.sleep(1000)
change(child)
change_files(child)
os.kill(child, 9)
"""
    )
    outcome = attack(code, profile="untrusted")
    assert len(outcome.escaped) > 11, str(outcome)
    assert not outcome.held, str(outcome)


OWN = """
attempt("prlimit", resource.setrlimit, resource.RLIMIT_CORE, (0, 0))
attempt("sched_setaffinity", os.sched_setaffinity, 0, os.sched_getaffinity(0))
attempt("sched_setscheduler", os.sched_setscheduler, 0, os.SCHED_BATCH, os.sched_param(0))
attempt("setpriority", os.nice, 1)
attempt("setpriority of a group", os.setpriority, os.PRIO_PGRP, 0, 2)
attempt("ioprio_set", call, "ioprio_set", PROCESS, 0, BEST_EFFORT)
attempt("reading limits", resource.prlimit, os.getpid(), resource.RLIMIT_NOFILE)
"""


def test_in_a_shared_pid_namespace_untrusted_code_may_change_itself():
    outcome = attack(CHANGES + OWN, profile="untrusted", namespaces=WITHOUT_PID)
    assert len(outcome.escaped) == 7, str(outcome)


# CLONE_PARENT makes a sibling: a child of the process that started the container.
SIBLING = """
pid = call("clone", 0x8000 | 17, 0, 0, 0, 0)
if pid == 0:
    os._exit(0)
print("escaped:", pid)
"""


def test_untrusted_code_cannot_give_the_caller_a_child():
    control = attack(SIBLING, namespaces=WITHOUT_PID)
    assert os.waitpid(int(control.escaped[0]), 0)[1] == 0
    outcome = attack(SIBLING, profile="untrusted", namespaces=WITHOUT_PID)
    assert "Operation not permitted" in outcome.complaint
    with Container(profile="untrusted") as container:
        outcome = attack(SIBLING, start=container.run)
    assert "Operation not permitted" in outcome.complaint
    assert not outcome.escaped
