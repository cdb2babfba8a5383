"""What is captured of a command is bounded, and a command that writes more is ended."""

import asyncio
import pickle
import subprocess
import threading

import pytest

import minidocker
from minidocker import SpecError, aio
from support.waiting import DEADLINE

ENDLESS = {
    "as PID 1": (["yes"], {}),
    "below init": (["yes"], {"init": True}),
    "a child": (["sh", "-c", "yes; exit 3"], {}),
    "without a PID namespace": (
        ["sh", "-c", "yes & setsid yes & wait"],
        {"namespaces": minidocker.NamespaceOptions.all().without_pid()},
    ),
    "a child that is left behind": (
        ["sh", "-c", "yes & exit 0"],
        {"namespaces": minidocker.NamespaceOptions.all().without_pid()},
    ),
    "untrusted": (["yes"], {"profile": "untrusted"}),
}


def by_run(args, **options):
    done = minidocker.run(args, **options)
    return done.returncode, done.stdout, done.stderr, done.limit_hit


def by_popen(args, *, capture_output=True, output_limit=None, timeout=None, **options):
    streams = {"stdout": -1, "stderr": -1} if capture_output else {}
    with minidocker.Popen(args, **streams, **options) as process:
        output = process.communicate(timeout=timeout, output_limit=output_limit)
    return (process.returncode, *output, process.limit_hit)


def by_aio(args, **options):
    done = asyncio.run(aio.run(args, **options))
    return done.returncode, done.stdout, done.stderr, done.limit_hit


def by_box(args, **options):
    kept = {name: options.pop(name) for name in ("namespaces", "init") if name in options}
    with minidocker.Container(**kept, profile=options.pop("profile", "namespaces")) as box:
        done = box.run(args, **options)
    return done.returncode, done.stdout, done.stderr, done.limit_hit


every_way = pytest.mark.parametrize("way", [by_run, by_popen, by_aio, by_box])


@every_way
@pytest.mark.parametrize(("args", "options"), ENDLESS.values(), ids=ENDLESS)
def test_a_command_that_writes_too_much_is_ended(way, args, options, survivors, leaks):
    env = {"env": survivors.env}
    result = way(args, capture_output=True, output_limit=1000, **env, **options)
    status, stdout, stderr, limit = result
    assert limit == "output_limit"
    assert status == -9
    assert stdout == b"y\n" * 500
    assert stderr == b""
    survivors.wait_until_gone()


@every_way
@pytest.mark.parametrize("size", [1, 999, 1000])
def test_output_up_to_the_limit_is_whole(way, size):
    script = f"head -c {size} /dev/zero; exit 3"
    result = way(["sh", "-c", script], capture_output=True, output_limit=1000)
    assert result == (3, bytes(size), b"", None)


@every_way
def test_both_streams_count_together(way):
    script = "head -c 600 /dev/zero; head -c 600 /dev/zero >&2; exec sleep 100"
    status, stdout, stderr, limit = way(
        ["sh", "-c", script], capture_output=True, output_limit=1000
    )
    assert (status, limit) == (-9, "output_limit")
    assert len(stdout) + len(stderr) == 1000


@every_way
def test_a_character_that_is_cut_is_replaced(way):
    script = "printf 'a\\303\\244\\r\\n\\303\\244'; exec sleep 100"
    options = {"capture_output": True, "encoding": "utf-8"}
    assert (
        way(["sh", "-c", script], output_limit=6, **options)[1] == "aä\n\N{REPLACEMENT CHARACTER}"
    )
    assert way(["sh", "-c", script], output_limit=5, **options)[1] == "aä\n"


def test_a_large_input_is_fed_meanwhile():
    data = bytes(10_000_000)
    done = minidocker.run(["cat"], input=data, stdout=-1, output_limit=len(data))
    assert (done.stdout, done.stderr, done.limit_hit) == (data, None, None)
    done = minidocker.run(["cat"], input=data, stdout=-1, stderr=-2, output_limit=5_000)
    assert (done.stdout, done.limit_hit) == (bytes(5_000), "output_limit")
    # The command may read nothing of it.
    done = minidocker.run(
        ["echo"], input="x" * 10**6, capture_output=True, text=True, output_limit=9
    )
    assert done.stdout == "\n"


def test_check_raises_and_the_exception_tells_why():
    with pytest.raises(subprocess.CalledProcessError) as caught:
        minidocker.run(["yes"], capture_output=True, output_limit=10, check=True)
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (error.limit_hit, error.output, error.returncode) == ("output_limit", b"y\n" * 5, -9)
        assert error.usage.wall > 0


def test_the_timeout_may_come_first():
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        minidocker.run(
            ["sh", "-c", "echo so far; exec sleep 100"],
            capture_output=True,
            output_limit=100,
            timeout=1,
        )
    assert (caught.value.output, caught.value.limit_hit) == (b"so far\n", "timeout")


def test_communicate_goes_on_after_a_timeout():
    script = "echo one; read line; echo $line; echo two >&2"
    streams = {"stdin": -1, "stdout": -1, "stderr": -1, "text": True}
    with minidocker.Popen(["sh", "-c", script], **streams) as process:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            process.communicate(timeout=0, output_limit=100)
        assert caught.value.timeout == 0
        with pytest.raises(ValueError, match="Cannot send input"):
            process.communicate("late")
        with pytest.raises(SpecError, match="has begun with 100 bytes"):
            process.communicate(output_limit=99)
        assert process.communicate("", timeout=DEADLINE) == ("one\n\n", "two\n")
    assert (process.returncode, process.limit_hit) == (0, None)


def test_communicate_that_has_begun_takes_no_limit():
    with minidocker.Popen(["sh", "-c", "echo x"], stdout=-1, stderr=-1) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(timeout=0)
        with pytest.raises(SpecError, match="has begun without it"):
            process.communicate(output_limit=10)
        assert process.communicate() == (b"x\n", b"")


@pytest.mark.parametrize(("given", "options"), [("text", {}), (1, {"text": True})])
def test_an_input_of_the_wrong_type_leaves_nothing(given, options, leaks):
    with pytest.raises(TypeError):
        minidocker.run(["cat"], input=given, stdout=-1, output_limit=10, **options)


def test_threads_capture_at_the_same_time(leaks):
    results = []

    def run():
        results.extend(by_run(["yes"], capture_output=True, output_limit=10_000) for _ in range(5))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(-9, b"y\n" * 5000, b"", "output_limit")] * 20


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "10"])
@every_way
def test_a_limit_is_a_positive_number_of_bytes(way, limit, leaks):
    with pytest.raises(SpecError, match=r"output_limit=.*positive integer"):
        way(["true"], capture_output=True, output_limit=limit)


@every_way
def test_a_limit_of_nothing_is_refused(way, leaks):
    with pytest.raises(SpecError, match="no output is captured: pass capture_output=True"):
        way(["true"], capture_output=False, output_limit=10)


@pytest.mark.parametrize(
    "way", [minidocker.run, lambda *args, **o: asyncio.run(aio.run(*args, **o))]
)
def test_a_file_is_not_captured(way, tmp_path, leaks):
    with (tmp_path / "output").open("w+") as file, pytest.raises(SpecError, match="no output is"):
        way(["true"], stdout=file, output_limit=10)
