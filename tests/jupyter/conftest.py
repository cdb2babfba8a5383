"""The IPython shell of the tests of magics."""

import pytest


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    interactiveshell = pytest.importorskip("IPython.core.interactiveshell")
    config = pytest.importorskip("traitlets.config")

    # The only instance of the process, without this user's configuration.
    directory = tmp_path_factory.mktemp("ipython")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(directory))
        # A history would start a thread and open a file.
        history = config.Config({"HistoryManager": {"enabled": False}})
        yield interactiveshell.InteractiveShell.instance(config=history)
        interactiveshell.InteractiveShell.clear_instance()


@pytest.fixture
def notebook(shell):
    """A notebook with the extension, and no variables."""
    shell.reset()
    shell.run_line_magic("load_ext", "minidocker")
    yield shell
    shell.run_line_magic("unload_ext", "minidocker")
