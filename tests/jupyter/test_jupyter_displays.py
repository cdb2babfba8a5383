"""The channel of the objects that a cell of Python displays: hostile and large messages."""

import pytest

import minidocker

pytest.importorskip("IPython")

from IPython.utils.capture import capture_output


def run(shell, cell):
    """Run a cell of Python in a container, and return its output and displayed objects."""
    with capture_output() as written:
        shell.run_cell_magic("minidocker", "--python --timeout 60", cell)
    return written


WHOLE = '"metadata": {}, "transient": {}, "update": false'
FORGED_DISPLAYS = {
    "not JSON": "b'nothing\\n'",
    "another shape": "b'{}\\n'",
    "another type": f"b'{{\"data\": [], {WHOLE}}}\\n'",
    "another name": f'b\'{{"data": {{}}, "source": 1, {WHOLE}}}\\n\'',
    "no number": f'b\'{{"data": {{"a": NaN}}, {WHOLE}}}\\n\'',
    "not text": "b'\\xff\\n'",
    "too deep": "b'[' * 100_000 + b'\\n'",
    "too much memory": f"b'{{\"data\": {{\"a\": [' + b'[],' * 3_000_000 + b'0]}}, {WHOLE}}}\\n'",
    "endless": "b'x' * 2**27",
}


@pytest.mark.parametrize("forged", FORGED_DISPLAYS.values(), ids=FORGED_DISPLAYS)
def test_a_forged_display_ends_the_cell_with_an_error(notebook, forged):
    # The cell itself would not end.
    cell = (
        "import time\n"
        "channel = get_ipython().display_pub.displays._theirs\n"
        f"channel.sendall({forged})\n"
        "while True: time.sleep(1)"
    )
    with pytest.raises(minidocker.CallResultError, match="displayed object") as caught:
        run(notebook, cell)
    assert len("\n".join(caught.value._render_traceback_())) < 1000


def test_a_display_that_is_too_large_is_refused_inside(notebook):
    cell = (
        "from IPython.display import display\n"
        "try: display({'text/plain': 'x' * 2**27}, raw=True)\n"
        "except Exception as error: print(error)\n"
        "display('small')"
    )
    written = run(notebook, cell)
    assert "display a smaller one" in written.stdout
    assert [output.data for output in written.outputs] == [{"text/plain": "'small'"}]


def test_a_notebook_that_cannot_show_the_output_ends_the_cell(notebook):
    def refuse(**_):
        raise ValueError("no room")

    cell = "display(1)\nimport time\nwhile True: time.sleep(1)"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebook.display_pub, "publish", refuse)
        with pytest.raises(ValueError, match="no room"):
            notebook.run_cell_magic("minidocker", "--python --timeout 30", cell)


def test_threads_of_a_cell_display_at_the_same_time(notebook):
    cell = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    for _ in range(8):\n"
        "        pool.submit(display, {'text/plain': 'x' * 2**20}, raw=True)"
    )
    written = run(notebook, cell)
    assert [len(output.data["text/plain"]) for output in written.outputs] == [2**20] * 8


def test_numbers_that_json_lacks_are_displayed_as_text(notebook):
    cell = "display({'application/json': {'a': [float('nan'), 1.5]}}, raw=True)"
    written = run(notebook, cell)
    assert written.outputs[0].data == {"application/json": {"a": ["nan", 1.5]}}
