"""What a call says about a file or module of the host that its container does not show."""

import ctypes
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest

import minidocker
from minidocker import CallFailed, Mount, Spec, isolated

METHODS: list[Literal["fork", "spawn"]] = ["fork", "spawn"]
TESTS = Path(__file__).parents[1]
UNTRUSTED = Spec(profile="untrusted", mounts=[Mount(TESTS, TESTS, read_only=True)])


def line(path: Path, mount: Path) -> str:
    return (
        f'"{path}" exists outside, but profile="untrusted" shows only /usr and what is named. '
        f'Remedy: mounts=[Mount("{mount}", "{mount}", read_only=True)]'
    )


def read(path: Any) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def import_module(name: str) -> None:
    importlib.import_module(name)


def load_library(path: str) -> None:
    ctypes.CDLL(path)


def execute(path: str) -> None:
    subprocess.run([path], check=True)


def pretend(kind: type[Exception], *args: Any) -> NoReturn:
    raise kind(*args)


def notes(function: Callable[..., Any], *args: Any, **options: Any) -> list[str]:
    with pytest.raises((OSError, ImportError)) as caught:
        isolated(function, **{"spec": UNTRUSTED, **options})(*args)
    return getattr(caught.value, "__notes__", [])


def json_failure(function: Callable[..., Any], *args: Any) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        isolated(function, spec=UNTRUSTED, result="json")(*args)
    return caught.value


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that exists outside only, with a module in it."""
    package = tmp_path / "hidden_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('it must not be imported')\n")
    (package / "part.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    # A container shows the import path, but no home.
    monkeypatch.setenv("HOME", str(tmp_path))
    return package


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_file_that_exists_outside_has_a_note(tmp_path: Path, method: str) -> None:
    file = tmp_path / "data"
    file.touch()
    assert notes(read, str(file), method=method) == [line(file, tmp_path)]
    assert notes(read, os.fsencode(file), method=method) == [line(file, tmp_path)]
    assert notes(execute, str(file), method=method) == [line(file, tmp_path)]


def test_a_missing_file_that_exists_outside_is_in_the_text_of_a_json_answer(tmp_path: Path) -> None:
    file = tmp_path / "it's data"
    file.touch()
    failure = json_failure(read, str(file))
    assert str(failure).endswith(f"\n{line(file, tmp_path)}")
    assert failure.message == f"[Errno 2] No such file or directory: {str(file)!r}"


def test_a_relative_path_is_one_of_the_callers_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").touch()
    monkeypatch.chdir(tmp_path)
    assert notes(read, "data") == [line(tmp_path / "data", tmp_path)]


@pytest.mark.parametrize("name", ["hidden_package", "hidden_package.part"])
def test_a_missing_module_that_exists_outside_is_named_and_not_imported(
    package: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = package / ("part.py" if name.endswith("part") else "__init__.py")
    message = f"No module named {name!r}"
    failure = json_failure(pretend, ModuleNotFoundError, message)
    assert str(failure) == f"ModuleNotFoundError: {message}\n{line(file, package)}"
    assert "hidden_package" not in sys.modules
    (found,) = notes(_raise_module_not_found, name)
    assert found == line(file, package)


def _raise_module_not_found(name: str) -> NoReturn:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_missing_library_that_exists_outside_is_named(tmp_path: Path) -> None:
    library = tmp_path / "libhidden.so"
    library.touch()
    assert notes(load_library, str(library)) == [line(library, tmp_path)]
    assert line(library, tmp_path) in str(json_failure(load_library, str(library)))


def test_an_executors_task_says_it_too(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.touch()
    for tasks in (1, 2):
        with minidocker.ContainerExecutor(1, spec=UNTRUSTED, max_tasks_per_child=tasks) as executor:
            error = executor.submit(read, str(file)).exception()
        assert getattr(error, "__notes__", []) == [line(file, tmp_path)], tasks


def test_a_task_names_the_mount_for_a_module_of_a_path_that_is_added_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "imported_later.py"
    module.write_text("def word(): return 'later'\n")
    with minidocker.ContainerExecutor(1, spec=UNTRUSTED, method="spawn") as executor:
        assert executor.submit(abs, -1).result() == 1
        monkeypatch.syspath_prepend(str(tmp_path))
        import imported_later  # noqa: PLC0415

        try:
            error = executor.submit(imported_later.word).exception()
        finally:
            del sys.modules["imported_later"]
    assert isinstance(error, ModuleNotFoundError)
    assert error.__notes__[-1] == line(module, tmp_path)


def test_what_is_shown_or_exists_nowhere_has_no_note(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    shown = Spec(profile="untrusted", mounts=[Mount(tmp_path, tmp_path)])
    assert notes(read, str(tmp_path / "none"), spec=shown) == []
    assert notes(read, "/no/such/file") == []
    assert notes(import_module, "no_such_module") == []
    assert notes(read, str(tmp_path / "none"), spec=Spec()) == []
    assert notes(pretend, FileNotFoundError, 2, "missing", "/usr/bin/env") == []


@pytest.mark.parametrize("method", METHODS)
def test_a_warning_about_a_functions_container_is_one_of_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    os.mkfifo(tmp_path / "control")
    mounted = Spec(profile="untrusted", mounts=[*UNTRUSTED.mounts, Mount("/data", tmp_path)])
    with pytest.warns(RuntimeWarning, match="shows the FIFO") as caught:
        isolated(os.getpid, spec=mounted, method=method)()
    assert [one.filename for one in caught] == [__file__]
    monkeypatch.setenv("TZDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    if method != "fork":
        # A clean interpreter does not inherit it; a warning is an error here.
        isolated(os.getpid, spec=UNTRUSTED, method=method)()
        return
    with pytest.warns(RuntimeWarning, match="the variable TZDIR names") as caught:
        isolated(os.getpid, spec=UNTRUSTED, method=method)()
    assert [one.filename for one in caught] == [__file__]


@pytest.mark.parametrize(
    "text",
    [
        "No module named '__main__'",
        "No module named 'os.path'",
        "No module named ''",
        "No module named '..'",
        "No module named 'a b'",
        "No module named 'sys." + "a." * 5000 + "'",
        "No module named '\x1b[31m'",
        "No module named 'sys\0'",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_a_module_name_from_inside_is_not_trusted(text: str) -> None:
    failure = json_failure(pretend, ModuleNotFoundError, text)
    assert "exists outside" not in str(failure)


@pytest.mark.parametrize(
    "text",
    [
        "'" + "/" * 100_000 + "'",
        "'/etc/shadow\\0'",
        "'\\",
        "'/\\N{no such name}'",
        "b'/\\xff\\udcff'",
        "'\\ud800'",
        "''" * 5000,
        "'relative\x1b[31m'",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_a_path_from_inside_is_not_trusted(text: str) -> None:
    failure = json_failure(pretend, FileNotFoundError, text)
    assert "\x1b" not in str(failure)
    assert "exists outside" not in str(failure)


class OddError(FileNotFoundError):
    """An exception whose attributes raise."""

    @property
    def filename(self) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("filename")

    def __str__(self) -> str:
        raise RuntimeError("str")


def test_the_attributes_of_an_exceptions_class_are_not_called() -> None:
    with pytest.raises(OddError):
        isolated(pretend, spec=UNTRUSTED)(OddError, 2, "missing")
