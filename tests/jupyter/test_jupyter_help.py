"""The help that IPython shows for the magics."""

import pytest

import minidocker.jupyter

pytest.importorskip("IPython")

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


@pytest.mark.parametrize(
    ("name", "words"),
    [("%minidocker", "Run a subcommand of minidocker"), ("%%minidocker", "Run the cell in a new")],
)
def test_a_question_mark_shows_the_docstring_of_the_magic(tmp_path, monkeypatch, name, words):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    minidocker.jupyter.load_ipython_extension(shell)
    page = shell.object_inspect_mime(name, detail_level=0)["text/plain"]
    assert words in page
    assert "partial" not in page
    assert "ipython" not in page.partition("Docstring")[0]
