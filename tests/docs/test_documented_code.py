"""Every block of code in the documentation runs as a reader runs it.

The reader is a plain user with an ordinary script in the home directory, and without cloudpickle.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import minidocker
from support.documentation import PAGES, blocks, name_of, script
from support.rootfs import make_rootfs

pytestmark = pytest.mark.plain(reason="the readers are plain users")

# What a page leaves to its readers, by page: definitions before the page's own code, in which PID
# is the pid of a container, and statements after it.
GIVEN = {
    "README.md": (
        """
import pytest
pid, inputs, code = PID, [1, 2], "print(1)"
def work_on(number): return number + 1
""",
        """
assert results == [2, 3]
assert work() is None
assert grade("submission") is None
test_nothing_of_the_machine_is_touched()
""",
    ),
    "docs/doctor.md": ("", "assert report.ok\n"),
    "docs/files.md": (
        """
from minidocker import run
DIRECTORY = "layer"
run(["touch", "/usr/new"], overlay=DIRECTORY, check=True)
""",
        """
assert "/usr/new" in minidocker.changes(DIRECTORY).added
""",
    ),
    "docs/functions.md": (
        """
import os
import linear_algebra
matrix = [[1]]
def simulate(seed): return seed
def build(what): print(what)
""",
        """
assert results == list(range(100))
assert done.stdout == "docs\\n"
""",
    ),
    "docs/namespaces.md": ("", ""),
    "docs/profiles.md": ('code = "print(1)"\n', ""),
}
# A page of tests, and a page of cells.
TESTS, CELLS = "docs/pytest.md", "docs/jupyter.md"
CELLS_BEFORE = """
import minidocker
pid = PID
numbers = [1, 2]
view = minidocker.attach(pid).view()
"""
LEFT_OUT = {
    r"make \w+": "it builds the package, and runs these tests",
    r"pip install": "it installs the package from an index",
    r".*# in ~/.zshrc": "tests/cli/test_cli_completion.py starts a zsh",
    r".*# in ~/.config/fish": "tests/cli/test_cli_completion.py starts a fish",
}
"""Commands that do not run here, with the reason."""

RUNS = {"python", "console", "", "text"}
"""The languages of blocks: code, command lines, cells or generated usage, and output to look at."""

SERVER = """\
#!{python}
import socketserver

class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"PONG")

socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer(("127.0.0.1", 6379), Answer).serve_forever()
"""
CLIENT = """\
#!{python}
import socket
assert socket.create_connection(("127.0.0.1", 6379)).recv(4) == b"PONG"
"""


@pytest.fixture(scope="module")
def box():
    with minidocker.Container() as container:
        yield container


@pytest.fixture
def home():
    """Return a directory in the home, with what the pages leave to their readers."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as name:
        directory = Path(name)
        files = {
            "cloudpickle.py": "raise ModuleNotFoundError(__name__, name=__name__)\n",
            "linear_algebra.py": "def solve(matrix): return matrix\n",
            "program.py": "print(1)\n",
            "Makefile": "test:\n\ttouch /tmp/made\n",
            "bin/redis-server": SERVER.format(python=sys.executable),
            "bin/redis-cli": CLIENT.format(python=sys.executable),
        }
        for folder in ("bin", "layer", "results"):
            (directory / folder).mkdir()
        for path, text in files.items():
            (directory / path).write_text(text)
            (directory / path).chmod(0o755)
        make_rootfs(directory / "debian")
        yield directory


def run(command, home):
    path = f"{home}/bin:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def require_programs(code):
    for program in ("ip", "ipcmk", "jq", "make", "ping"):
        if re.search(rf"\b{program}\b", code) and shutil.which(program) is None:
            pytest.skip(f"no {program}: scripts/system-packages.sh test installs it")


def code_of(name, languages=("python",)):
    (page,) = (page for page in PAGES if name_of(page) == name)
    return [block.text for block in blocks(page) if block.language in languages]


def test_every_block_has_a_language_that_runs_or_a_page_that_says_what_it_is():
    for page in PAGES:
        for block in blocks(page):
            is_directive = block.language.startswith("{")
            assert is_directive or block.language in RUNS, block
            if block.language == "python":
                assert block.page in {*GIVEN, TESTS, CELLS}, block
            if block.language == "" and block.page not in (CELLS, "CONTRIBUTING.md"):
                # The usage lines, which tests/cli/test_cli_reference.py compares.
                assert block.text.startswith("minidocker "), block


@pytest.mark.parametrize("page", GIVEN)
def test_the_code_of_a_page_runs_as_a_script(page, home, box):
    before, after = GIVEN[page]
    before = before.replace("PID", str(box.pid))
    code = "".join([before, *code_of(page), after])
    require_programs(code)
    (home / "script.py").write_text(script(code))
    run([sys.executable, "script.py"], home)


def test_the_tests_of_a_page_pass(home):
    (home / "test_page.py").write_text("".join(code_of(TESTS)))
    options = ["-q", "-p", "no:cacheprovider", "-p", "minidocker.pytest_plugin"]
    assert "2 passed" in run([sys.executable, "-m", "pytest", *options, "test_page.py"], home)


def test_the_cells_of_a_page_run(home, box):
    pytest.importorskip("IPython")
    cells = [CELLS_BEFORE.replace("PID", str(box.pid)), *code_of(CELLS, ("python", ""))]
    (home / "cells.py").write_text(
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance(user_module=None)\n"
        f"for cell in {cells!r}:\n"
        "    shell.run_cell(cell).raise_error()\n"
        "assert shell.user_ns['total'] == 3\n"
    )
    run([sys.executable, "cells.py"], home)


def commands():
    """Return the command lines of all pages, with the output that the page shows."""
    found = []
    for page in PAGES:
        for block in blocks(page):
            if block.language == "console":
                for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                    line, _, output = part.partition("\n")
                    found.append(pytest.param(line, output, id=f"{block.page}: {line[:40]}"))
    return found


@pytest.mark.parametrize(("line", "output"), commands())
def test_a_command_line_of_a_page_works(line, output, home, box):
    if any(re.match(pattern, line) for pattern in LEFT_OUT):
        return
    require_programs(line)
    line = line.replace("PID", str(box.pid)).replace("4242", str(box.pid))
    shown = run(["bash", "-euc", line], home)
    if output:
        names = {"myhost": os.uname().nodename}
        assert _neutral(shown) == _neutral(names.get(output.strip(), output.strip()))


def _neutral(text):
    """Return output without the numbers that differ from one machine to the next."""
    return re.sub(r"\d{4,}", "N", text.strip())
