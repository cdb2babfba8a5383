"""What a test with profile="untrusted" sees of the tests' files."""

import pytest

SOURCE = """
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.minidocker(profile="untrusted")
HERE = Path(__file__).parent

def test_reads(tmp_path):
    import helper

    assert helper.WORD == "helper"
    assert (HERE / "data.txt").read_text() == "data"
    assert not os.access(HERE / "data.txt", os.W_OK)
    assert not (HERE.parent / "secret").exists()
    (tmp_path / "file").write_text("inside")
    assert os.listdir(tmp_path) == ["file"]

def test_has_another_tmp_path(tmp_path, tmp_path_factory):
    assert os.listdir(tmp_path) == []
    assert tmp_path_factory.mktemp("more").is_dir()
    assert not any(name.startswith("test_reads") for name in os.listdir(tmp_path.parent))
"""


@pytest.mark.parametrize("basetemp", [[], ["--basetemp=own"]], ids=["default", "in the root"])
def test_a_test_sees_the_root_directory_of_the_tests_and_has_a_tmp_path(runs, basetemp):
    # The home of these runs is the directory above.
    root = runs.pytester.mkdir("project")
    (root.parent / "secret").touch()
    (root / "data.txt").write_text("data")
    (root / "helper.py").write_text("WORD = 'helper'\n")
    (root / "test_it.py").write_text(SOURCE)
    result = runs.run(root, "test_it.py", *basetemp)
    result.assert_outcomes(passed=2)


SHARED = """
import os

import pytest

pytestmark = pytest.mark.minidocker(profile="untrusted")

@pytest.fixture(scope="{scope}")
def shared({factory}):
    directory = {factory}.mktemp("shared")
    path = os.path.join(directory, "file")
    with open(path, "w") as file:
        file.write("shared")
    return path

@pytest.fixture(scope="{scope}")
def through_another(shared):
    return shared

class TestShared:
    def test_reads(self, through_another, tmp_path):
        with open(through_another) as file:
            assert file.read() == "shared"
        assert not os.access(through_another, os.W_OK)
        (tmp_path / "file").write_text("inside")
        assert os.listdir(tmp_path) == ["file"]

    def test_without_it_sees_nothing_of_it(self, tmp_path):
        assert not [name for name in os.listdir(tmp_path.parent) if name.startswith("shared")]
"""


@pytest.mark.parametrize(
    ("scope", "factory"), [("session", "tmp_path_factory"), ("class", "tmpdir_factory")]
)
def test_a_test_reads_the_temporary_files_of_a_shared_fixture(runs, scope, factory):
    source = SHARED.format(scope=scope, factory=factory)
    root = runs.pytester.mkdir("project")
    (root / "test_it.py").write_text(source)
    runs.run(root, "test_it.py").assert_outcomes(passed=2)
