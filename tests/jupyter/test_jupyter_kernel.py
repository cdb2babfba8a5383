"""The magics in a real kernel: live output, and interrupts."""

import os

import pytest


@pytest.fixture
def kernel(tmp_path):
    manager = pytest.importorskip("jupyter_client.manager")
    environment = {
        **os.environ, "IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path / "run")
    }  # fmt: skip
    started, client = manager.start_new_kernel(
        startup_timeout=60, kernel_name="python3", env=environment
    )
    client.execute_interactive("%load_ext minidocker", timeout=60, allow_stdin=False)
    yield started, client
    client.stop_channels()
    started.shutdown_kernel(now=True)


def execute(client, code):
    """Send a cell, and yield its messages until the kernel has finished it."""
    # With stop_on_error the kernel may discard the next cell after a failure.
    sent = client.execute(code, allow_stdin=False, stop_on_error=False)
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != sent:
            continue
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return
        yield message["msg_type"], message["content"]


def text(messages):
    """Return the printed text: a kernel may send a line in parts, whenever its timer fires."""
    return "".join(content["text"] for kind, content in messages if kind == "stream")


def test_output_is_shown_while_the_cell_runs(kernel, tmp_path):
    _, client = kernel
    gate = tmp_path / "gate"
    script = f"%%minidocker\necho first\nwhile [ ! -e {gate} ]; do sleep 0.01; done\necho last\n"
    shown = []
    for message in execute(client, script):
        shown.append(message)
        if text(shown) == "first\n":
            # The script continues only after its first line has arrived here.
            gate.touch()
    assert text(shown) == "first\nlast\n"


def test_interrupting_the_kernel_ends_the_container(kernel, survivors):
    manager, client = kernel
    script = f"%%minidocker\nMARK={survivors.mark} sleep 1000 &\necho $$ started\nsleep 1000\n"
    shown = []
    for kind, content in execute(client, script):
        shown.append((kind, content))
        if kind == "stream" and text(shown).endswith("started\n"):
            manager.interrupt_kernel()
        if kind == "error":
            assert content["ename"] == "KeyboardInterrupt"
            break
    else:
        pytest.fail("the cell was not interrupted")
    survivors.wait_until_gone()
    # The kernel still works.
    assert text(execute(client, "print(1)")) == "1\n"


def test_interrupting_the_kernel_ends_a_cell_of_python(kernel, survivors):
    manager, client = kernel
    cell = (
        "%%minidocker --python\nimport subprocess, time\n"
        f"subprocess.Popen(['sh', '-c', 'sleep 1000; true {survivors.mark}'])\n"
        "print('started')\ntime.sleep(1000)"
    )
    shown = []
    for kind, content in execute(client, cell):
        shown.append((kind, content))
        if kind == "stream" and text(shown).endswith("started\n"):
            survivors.wait_until_found()
            manager.interrupt_kernel()
        if kind == "error":
            assert content["ename"] == "KeyboardInterrupt"
            break
    else:
        pytest.fail("the cell was not interrupted")
    survivors.wait_until_gone()


def test_a_cell_of_python_displays_objects_in_a_real_kernel(kernel):
    _, client = kernel
    cell = (
        "%%minidocker --python --return box\nfrom IPython.display import Markdown, display\n"
        "print('text'); display(Markdown('*shown*')); box = 5\nimport minidocker\n"
        "minidocker.namespaces()"
    )
    shown = list(execute(client, cell))
    pages = [content["data"] for kind, content in shown if kind == "display_data"]
    assert text(shown) == "text\n"
    assert [sorted(page) for page in pages] == [
        ["text/markdown", "text/plain"], ["text/html", "text/plain"]
    ]  # fmt: skip
    assert text(execute(client, "print(box)")) == "5\n"


def test_values_are_shown_as_pictures_and_as_text(kernel):
    _, client = kernel
    code = "import minidocker\nbox = minidocker.Container(hostname='lab').start()\nbox.view()"
    found = [content["data"] for kind, content in execute(client, code) if kind == "execute_result"]
    assert 'class="minidocker-view"' in found[0]["text/html"]
    assert "CONTAINER lab" in found[0]["text/plain"]
    list(execute(client, "box.kill()"))
