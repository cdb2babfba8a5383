"""The report of a test that did not find a file or module which its container does not show."""

import pytest


def test_a_failed_test_says_that_a_file_exists_outside_only(
    runs, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path_factory.mktemp("outside")
    (directory / "data").touch()
    (directory / "hidden_module.py").touch()
    # A container shows the import path, but no home.
    monkeypatch.setenv("HOME", str(directory))
    result = runs(
        f"""
        import importlib, sys
        import pytest

        sys.path.append({str(directory)!r})

        pytestmark = pytest.mark.minidocker(profile="untrusted")

        @pytest.fixture
        def opened():
            with open({str(directory / "data")!r}) as file: yield file

        def test_reads(): open({str(directory / "data")!r})
        def test_is_set_up(opened): pass
        def test_imports(): raise ModuleNotFoundError("No module named 'hidden_module'")
        def test_finds_nothing(): open("/no/such/file")
        """,
    )
    assert result.parseoutcomes() == {"failed": 3, "errors": 1}
    shown = result.stdout.str()
    assert shown.count("Not shown in the container") == 3
    line = '"{}" exists outside, but profile="untrusted" shows only /usr and what is named'
    assert shown.count(line.format(directory / "data")) == 2
    assert shown.count(line.format(directory / "hidden_module.py")) == 1
