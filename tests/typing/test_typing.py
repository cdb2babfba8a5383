"""The types of the public API: type checkers accept right uses and refuse wrong ones.

mypy (strict) and pyright read ``right.py`` and ``wrong.py``. Both refuse each line that ends with
``# wrong``, and no other.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MARKED = {
    (path.name, number)
    for path in HERE.glob("*.py")
    if path != Path(__file__)
    for number, line in enumerate(path.read_text().splitlines(), 1)
    if line.endswith("# wrong")
}


def by_mypy(directory: Path) -> dict[tuple[str, int], str]:
    """Return (file, line) → complaint."""
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--config-file=", "--hide-error-context",
            "--cache-dir", directory, HERE / "right.py", HERE / "wrong.py",
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    found = re.findall(r"(\w+\.py):(\d+): error: (.*)", done.stdout)
    return {(file, int(line)): message for file, line, message in found}


def by_pyright(directory: Path) -> dict[tuple[str, int], str]:
    """Return (file, line) → complaint."""
    settings = {"include": [str(HERE)], "exclude": [__file__], "typeCheckingMode": "strict"}
    project = directory / "pyrightconfig.json"
    project.write_text(json.dumps(settings))
    done = subprocess.run(
        [
            sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable,
            "--project", project, "--outputjson",
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    return {
        (Path(row["file"]).name, row["range"]["start"]["line"] + 1): row["message"]
        for row in json.loads(done.stdout)["generalDiagnostics"]
        if row["severity"] == "error"
    }


@pytest.mark.parametrize("check", [by_mypy, by_pyright])
def test_each_wrong_line_is_refused_and_no_right_one(check, tmp_path):
    refused = check(tmp_path)
    accepted = sorted(MARKED - refused.keys())
    assert not accepted, f"accepted, though wrong: {accepted}"
    unmarked = {line: refused[line] for line in sorted(refused.keys() - MARKED)}
    assert not unmarked, f"refused, though right: {unmarked}"
    assert len(MARKED) > 30
