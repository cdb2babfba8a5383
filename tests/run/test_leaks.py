"""Thousands of containers leak nothing: no descriptor, zombie, mount, memory or thread."""

import concurrent.futures
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions

RUNS = 2000
# Bytes. An allocator keeps a bounded amount of freed memory. Leaking one plan (some KiB) or one
# stack (64 KiB) in each of 2,000 runs exceeds this.
MOST_GROWTH = 4 << 20


def resident():
    """Return the bytes of this process's anonymous memory: data, heap, stacks."""
    gc.collect()
    rows = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(rows["RssAnon"].split()[0]) * 1024


def mapped():
    """Return the number of this process's mappings; a leaked stack is one more."""
    return len(Path("/proc/self/maps").read_text().splitlines())


def test_two_thousand_runs_in_a_row_leave_nothing(noop, leaks):
    def run(times):
        for _ in range(times):
            minidocker.run([noop], hostname="lab", check=True)

    run(100)
    before, mappings = resident(), mapped()
    run(RUNS)
    assert resident() - before < MOST_GROWTH
    assert mapped() <= mappings + 4
    leaks.assert_unchanged()


def test_two_thousand_runs_from_eight_threads_leave_nothing(noop, leaks):
    def run(times):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            done = list(pool.map(lambda _: minidocker.run([noop], hostname="lab"), range(times)))
        assert {process.returncode for process in done} == {0}

    run(200)
    before, mappings = resident(), mapped()
    run(RUNS)
    # Each thread has its own malloc arena, and the C library may keep its stack for a later thread.
    assert resident() - before < MOST_GROWTH + 8 * (1 << 20)
    assert mapped() <= mappings + 8 * 4
    leaks.assert_unchanged()


@pytest.mark.parametrize(
    "options",
    [
        {"init": True},
        {"namespaces": NamespaceOptions.none()},
        {"capture_output": True, "input": b"x" * 100_000},
        {"timeout": 60},
        {"user": 1234} if os.geteuid() else {"user": "nobody"},
    ],
    ids=["init", "none", "pipes", "timeout", "user"],
)
def test_no_option_of_run_leaks(options, noop, leaks):
    for _ in range(20):
        minidocker.run([noop], **options)
    before, mappings = resident(), mapped()
    for _ in range(200):
        minidocker.run([noop], **options)
    assert resident() - before < 1 << 20
    assert mapped() <= mappings + 4


def test_a_thread_that_ends_frees_the_stack_of_its_children(noop, leaks):
    def run_in_thread():
        thread = threading.Thread(target=minidocker.run, args=([noop],))
        thread.start()
        thread.join()

    for _ in range(5):
        run_in_thread()
    before = mapped()
    for _ in range(50):
        run_in_thread()
    assert mapped() <= before + 4


def test_errors_leak_nothing(noop, leaks):
    def fail():
        with pytest.raises(minidocker.SpecError):
            minidocker.run([noop], hostname="x" * 65)
        with pytest.raises(minidocker.CommandNotFound):
            minidocker.run(["/nonexistent"])
        with pytest.raises(minidocker.SpawnError):
            minidocker.run([noop], cwd="/nonexistent", init=True, capture_output=True)

    for _ in range(20):
        fail()
    before, mappings = resident(), mapped()
    for _ in range(300):
        fail()
    assert resident() - before < 1 << 20
    assert mapped() <= mappings + 4


def test_entered_containers_leak_nothing(noop, leaks):
    def live():
        with minidocker.Container() as box:
            box.run([noop], check=True)
            box.popen(["sleep", "100"])

    for _ in range(5):
        live()
    before, mappings = resident(), mapped()
    for _ in range(50):
        live()
    assert resident() - before < 1 << 20
    assert mapped() <= mappings + 4


def test_a_mount_inside_does_not_appear_outside(tmp_path, leaks):
    flags = ["-t", "tmpfs", "tmpfs", str(tmp_path)]
    minidocker.run(["mount", *flags], check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_process_keeps_at_most_three_descriptors_and_they_are_close_on_exec(noop):
    script = """
import os, sys
def table():
    found = {}
    for number in os.listdir('/proc/self/fd'):
        try:
            found[int(number)] = os.readlink(f'/proc/self/fd/{number}')
        except FileNotFoundError:
            pass
    return found
before = table()
import minidocker
for options in ({}, {'init': True}, {'hostname': 'lab'}):
    minidocker.run([sys.argv[1]], check=True, **options)
gained = {n: name for n, name in table().items() if before.get(n) != name}
assert len(gained) <= 3, gained
assert all(number > 2 and not os.get_inheritable(number) for number in gained), gained
"""

    subprocess.run([sys.executable, "-c", script, noop], check=True)
