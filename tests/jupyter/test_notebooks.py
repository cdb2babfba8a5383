"""The notebooks run, and their assertions hold."""

import json
import re

import pytest

from support.places import REPOSITORY

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

NOTEBOOKS = REPOSITORY / "examples" / "notebooks"


def notebooks():
    found = sorted(NOTEBOOKS.glob("*.ipynb"))
    assert found
    return found


def texts(notebook):
    """Return the text and the HTML of all outputs."""
    plain, pages = [], []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            plain.append(output.get("text", "") or data.get("text/plain", ""))
            pages.append(data.get("text/html", ""))
    return "\n".join(plain), "\n".join(pages)


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_runs_and_its_assertions_hold(path, survivors, tmp_path):
    # Every process that the kernel starts carries the mark, and must end with the kernel.
    environment = {**survivors.env, "IPYTHONDIR": str(tmp_path / "ipython")}
    environment["JUPYTER_RUNTIME_DIR"] = str(tmp_path / "runtime")
    # Load this plugin only, and not all those that the suite's own tests combine with it.
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    environment["PYTEST_PLUGINS"] = "minidocker.pytest_plugin"
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=environment)
    plain, pages = texts(notebook)
    assert "Traceback" not in plain
    assert "Warning" not in plain
    assert pages.count('class="minidocker-view"') == plain.count("CONTAINER")


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    notebook = json.loads(path.read_text())
    nbformat.validate(nbformat.from_dict(notebook))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    # The title comes first, for lists of notebooks.
    assert re.match("# .+\n", "".join(notebook["cells"][0]["source"]))


def test_every_part_of_the_chapter_has_its_notebook():
    titles = [json.loads(path.read_text())["cells"][0]["source"][0] for path in notebooks()]
    for part in ("What namespaces are", "PID", "UTS", "Mount", "Network", "User", "Joining",
                 "step by step", "pytest", "untrusted", "IPC", "cgroup", "Time"):  # fmt: skip
        assert any(part in title for title in titles), part
