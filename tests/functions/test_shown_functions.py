"""The files that profile="untrusted" shows because a function is made of them."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
import minidocker

def probe():
    import late
    home = os.path.expanduser("~")
    return late.WORD, sorted(os.listdir(home)), os.access(late.__file__, os.W_OK)

if __name__ == "__main__":
    method = sys.argv[1]
    run = minidocker.isolated(profile="untrusted", method=method)
    print(run(probe)())
"""


@pytest.fixture
def home(tmp_path):
    directory = tmp_path / "home"
    directory.mkdir()
    (directory / "secret").touch()
    return directory


def python(home, *args, cwd=None):
    environment = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *args],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_script_imports_the_modules_beside_it(home, method):
    project = home / "project"
    project.mkdir()
    (project / "script.py").write_text(PROGRAM)
    (project / "late.py").write_text("WORD = 'late'\n")
    expected = "('late', ['project'], False)"
    assert python(home, project / "script.py", method) == expected
    assert python(home, "-m", "script", method, cwd=project) == expected


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_module_of_a_package_in_a_home_shows_the_package_only(home, method):
    package = home / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "late.py").write_text("WORD = 'late'\n")
    (package / "work.py").write_text(PROGRAM.replace("import late", "from package import late"))
    code = (
        "import sys, minidocker; from package.work import probe; "
        f"print(minidocker.isolated(profile='untrusted', method={method!r})(probe)())"
    )
    assert python(home, "-c", code, cwd=home) == "('late', ['package'], False)"
    assert python(home, "-m", "package.work", method, cwd=home) == "('late', ['package'], False)"


def test_the_root_of_an_editable_install_is_shown(home):
    project, site = home / "project", home / "site"
    info = site / "project-1.dist-info"
    info.mkdir(parents=True)
    project.mkdir()
    (project / "data").write_text("data")
    origin = {"url": project.as_uri(), "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(origin))
    code = (
        f"import sys, minidocker; sys.path.append({str(site)!r}); "
        "read = minidocker.isolated(profile='untrusted')(lambda path: open(path).read()); "
        f"print(read({str(project / 'data')!r}))"
    )
    assert python(home, "-c", code, cwd="/") == "data"


def test_a_mount_takes_the_place_of_what_a_function_shows(home):
    project, other = home / "project", home / "other"
    for directory, word in ((project, "late"), (other, "mine")):
        directory.mkdir()
        (directory / "late.py").write_text(f"WORD = {word!r}\n")
    mount = f"mounts=[minidocker.Mount({str(project)!r}, {str(other)!r}, read_only=True)],"
    script = project / "script.py"
    script.write_text(PROGRAM.replace("(profile=", f"({mount} profile="))
    assert python(home, script, "fork") == "('mine', ['project'], False)"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_of_a_home_on_the_path_a_function_has_the_imported_modules(home, method):
    (home / "imported.py").write_text(
        "import os\ndef probe(): return os.listdir(os.path.dirname(__file__))"
    )
    (home / "other.py").touch()
    code = (
        "import minidocker, imported; "
        f"print(minidocker.isolated(profile='untrusted', method={method!r})(imported.probe)())"
    )
    assert python(home, "-c", code, cwd=home) == "['imported.py']"
