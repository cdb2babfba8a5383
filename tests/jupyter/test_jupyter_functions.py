"""What a function prints in its container appears in the running cell of a real kernel."""

import os

import pytest

manager = pytest.importorskip("jupyter_client.manager")

WAYS = {
    "call": "minidocker.call({})",
    "spawn": "minidocker.isolated(method='spawn')({})()",
    "executor": "with minidocker.ContainerExecutor(1) as pool: pool.submit({}).result()",
    "executor, kept": (
        "with minidocker.ContainerExecutor(1, method='spawn', max_tasks_per_child=None) as pool: "
        "pool.submit({}).result()"
    ),
    "container": "with minidocker.Container() as box: box.call({})",
}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    directory = tmp_path_factory.mktemp("kernel")
    environment = {
        **os.environ,
        "IPYTHONDIR": str(directory),
        "JUPYTER_RUNTIME_DIR": str(directory / "run"),
    }
    started, client = manager.start_new_kernel(
        startup_timeout=60, kernel_name="python3", env=environment
    )
    imports = "import logging, minidocker, os, subprocess, sys, threading, time"
    client.execute_interactive(imports, timeout=60, allow_stdin=False)
    yield started, client
    client.stop_channels()
    started.shutdown_kernel(now=True)


def messages(client, sent):
    """Yield the messages for a cell until the kernel has finished it."""
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != sent:
            continue
        if message["content"].get("execution_state") == "idle":
            return
        yield message["msg_type"], message["content"]


def execute(client, code):
    """Run a cell, and yield its messages."""
    return messages(client, client.execute(code, allow_stdin=False, stop_on_error=False))


def text(found, *streams):
    """Return the text of these streams; of both if none is named."""
    return "".join(
        content["text"]
        for kind, content in found
        if kind == "stream" and (not streams or content["name"] in streams)
    )


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_output_appears_while_the_function_runs(kernel, tmp_path, way):
    gate = tmp_path / "gate"
    code = (
        "def work():\n    print('first')\n"
        f"    while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n    print('last')\n"
    )
    shown = []
    for message in execute(kernel[1], code + way.format("work")):
        shown.append(message)
        if text(shown) == "first\n":
            # The function continues only after its first line has arrived here.
            gate.touch()
    assert text(shown) == "first\nlast\n"


@pytest.mark.parametrize("way", [WAYS["call"], WAYS["executor, kept"]], ids=["call", "executor"])
def test_every_kind_of_output_appears_in_its_order(kernel, way):
    code = (
        "def work():\n"
        "    print('Python'); os.write(1, b'descriptor\\n'); os.system('echo command')\n"
        "    thread = threading.Thread(target=print, args=('thread',)); thread.start()\n"
        "    thread.join(); print('error', file=sys.stderr); os.write(2, b'raw error\\n')\n"
        "    print('\\u20ac', end='', flush=True); print('unfinished', end='')\n"
    )
    shown = list(execute(kernel[1], code + way.format("work") + "\nprint(' after')"))
    assert text(shown, "stdout") == "Python\ndescriptor\ncommand\nthread\n\u20acunfinished after\n"
    assert text(shown, "stderr") == "error\nraw error\n"


@pytest.mark.parametrize("end", ["raise KeyError", "sys.exit(3)", "os._exit(3)", "os.kill(0, 9)"])
def test_output_before_a_bad_end_appears(kernel, end):
    shown = list(
        execute(kernel[1], f"def work():\n    print('x')\n    {end}\nminidocker.call(work)")
    )
    assert text(shown, "stdout") == "x\n"
    assert shown[-1][0] == "error"


def test_output_appears_under_the_cell_of_its_task(kernel, tmp_path):
    gate = tmp_path / "gate"
    _, client = kernel
    first = client.execute(
        "def work():\n"
        f"    while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n    print('late')\n"
        "pool = minidocker.ContainerExecutor(1); future = pool.submit(work)"
    )
    list(messages(client, first))
    second = client.execute(
        f"open({str(gate)!r}, 'w').close(); future.result(); pool.shutdown(); print('second')"
    )
    found = {first: "", second: ""}
    while found[first] != "late\n" or found[second] != "second\n":
        message = client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "stream":
            found[message["parent_header"]["msg_id"]] += message["content"]["text"]


@pytest.mark.parametrize(
    ("function", "stream", "shown"),
    [
        ("lambda: display('an object')", "stdout", "'an object'\n"),
        ("lambda: logging.getLogger('its').warning('x')", "stderr", "x\n"),
        ("lambda: sys.__stdout__.write('x')", "stdout", "x"),
    ],
    ids=["display", "logging", "original stream"],
)
def test_what_writes_past_print_appears_too(kernel, function, stream, shown):
    code = (
        "logging.getLogger('its').addHandler(logging.StreamHandler())\n"
        f"minidocker.call({function})\nlogging.getLogger('its').handlers.clear()"
    )
    assert text(execute(kernel[1], code), stream) == shown


def test_a_function_has_no_input(kernel):
    found = list(execute(kernel[1], "minidocker.call(lambda: input())"))
    assert found[-1][1]["ename"] == "EOFError"


def test_output_can_be_captured_in_the_cell(kernel):
    _, client = kernel
    list(execute(client, "%%capture captured\nminidocker.call(print, 'x')"))
    assert text(execute(client, "print(repr(captured.stdout))")) == "'x\\n'\n"


@pytest.mark.parametrize(
    "wait",
    [
        "with pool: list(pool.map(work, range(4)))",
        "[future.result() for future in [pool.submit(work, n) for n in range(4)]]",
        "with pool: pool.submit(work, 1)",
        "import concurrent.futures as f; f.wait([pool.submit(work, 1)])",
    ],
    ids=["map", "result", "shutdown", "wait"],
)
@pytest.mark.parametrize("kept", ["", ", max_tasks_per_child=None"], ids=["", "kept"])
def test_interrupting_the_kernel_ends_the_tasks_of_an_executor(kernel, survivors, wait, kept):
    started, client = kernel
    code = (
        "def work(_):\n"
        f"    print('started'); subprocess.run(['sh', '-c', 'sleep 1000; : {survivors.mark}'])\n"
        f"pool = minidocker.ContainerExecutor(2{kept})\n{wait}"
    )
    shown = []
    is_interrupted = False
    for message in execute(client, code):
        shown.append(message)
        if "started" in text(shown) and not is_interrupted:
            is_interrupted = True
            survivors.wait_until_found()
            started.interrupt_kernel()
    assert shown[-1][1]["ename"] == "KeyboardInterrupt", shown[-1]
    survivors.wait_until_gone()
    # The kernel still works.
    assert text(execute(client, "print(1)")) == "1\n"
