"""Coverage measured in containers: the same as without, and forged data."""

import sqlite3
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest

FILES = {
    "pkg/__init__.py": "",
    "pkg/early.py": """
        def sign(number):
            if number < 0:
                return -1
            return 1
        """,
    "pkg/sub/__init__.py": "",
    "pkg/sub/late.py": """
        from pkg.early import sign

        def twice(number): return sign(number) + sign(number)
        """,
    "pkg/omitted.py": "",
    "other.py": "VALUE = 1",
    "measures_text.py": """
        import coverage

        class Text(coverage.CoveragePlugin):
            def file_tracer(self, filename):
                return Tracer() if filename.endswith("other.py") else None
            def file_reporter(self, filename): return "python"

        class Tracer(coverage.FileTracer):
            def source_filename(self): return FILE

        FILE = __file__.replace("measures_text.py", "pkg/page.txt")

        def coverage_init(registry, options): registry.add_file_tracer(Text())
        """,
    "pkg/page.txt": "VALUE = 1",
    "test_it.py": """
        import pytest, pkg.early

        @pytest.mark.parametrize("number", [1, -1])
        def test_number(number): assert pkg.early.sign(number) == number

        def test_imports():
            # Nothing outside imports these.
            import other, pkg.omitted
            from pkg.sub.late import twice
            assert twice(5) == 2
        """,
}


def measured(directory):
    """Return everything that coverage has measured."""
    with closing(sqlite3.connect(directory / ".coverage")) as data:
        tables = "file left join tracer on tracer.file_id = file.id"
        arcs = data.execute(
            f"select path, tracer, context, fromno, tono from {tables} "
            "join arc on arc.file_id = file.id join context on context.id = context_id"
        ).fetchall()
        data.create_function("text", 1, bytes.hex)
        lines = data.execute(
            f"select path, tracer, context, text(numbits) from {tables} "
            "join line_bits on line_bits.file_id = file.id join context on context.id = context_id"
        ).fetchall()
    place = str(directory)
    return sorted((path.replace(place, ""), *map(str, rest)) for path, *rest in arcs + lines)


@pytest.mark.plain(reason="it does not depend on the user")
@pytest.mark.parametrize(
    ("workers", "config"),
    [
        pytest.param((), "source_pkgs = pkg.sub\ndynamic_context = test_function", id="package"),
        pytest.param((), "source = .\nomit = */omitted.py\nbranch = true", id="branch"),
        pytest.param(("-n2",), "include = pkg/*\nrelative_files = true\ncontext = a", id="workers"),
        pytest.param((), "plugins = measures_text\ncontext = always\nbranch = true", id="plugin"),
    ],
)
def test_the_measured_lines_are_the_same_as_without_containers(runs, config, workers):
    found = []
    for name, options in (("without", ()), ("contained", ("--minidocker",))):
        directory = runs.pytester.path / name
        for file, content in {**FILES, ".coveragerc": f"[run]\n{config}\n"}.items():
            path = directory / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(content))
        contexts = () if "dynamic" in config else ("--cov-context=test",)
        result = runs.run(
            directory, "--cov", *contexts, *options, *workers, plugins=["pytest_cov", "xdist"]
        )
        assert result.parseoutcomes()["passed"] == 3
        found.append(measured(directory))
    without, contained = found
    assert any("test_imports" in row[2] for row in without)
    assert any(row[1] == "measures_text.Text" for row in without) == ("plugins" in config)
    assert contained == without


FORGING = """
    import base64, gc, os, zlib, covered, pytest

    def send(data):
        "Send these data as the coverage of this test."
        [inside] = [each for each in gc.get_objects() if type(each).__name__ == "Inside"]
        inside._pack_plugins = lambda: {"coverage": data}

    HERE = os.path.dirname(__file__)
    SQL = f"ATTACH DATABASE '{HERE}/written' AS more; CREATE TABLE more.rows (number);"
    GOOD = {"context": "", "file": f"{HERE}/covered.py", "tracer": "", "numbers": "3"}

    FORGED = {
        "sql": base64.b64encode(b"z" + zlib.compress(SQL.encode())).decode(),
        "dictionary": GOOD,
        "none": None,
        "none in a list": [None],
        "field": [{**GOOD, "more": 1}],
        "missing": [{"context": "", "file": GOOD["file"]}],
        "context": [{**GOOD, "context": 5}],
        "long context": [{**GOOD, "context": "x" * 100_000}],
        "context of another": [{**GOOD, "context": "test_it.py::test_honest|run"}],
        "file": [{**GOOD, "file": ["covered.py"]}],
        "no file": [{**GOOD, "file": ""}],
        "relative file": [{**GOOD, "file": "covered.py"}],
        "climbing file": [{**GOOD, "file": f"{HERE}/../{os.path.basename(HERE)}/covered.py"}],
        "nul in file": [{**GOOD, "file": GOOD["file"] + chr(0)}],
        "long file": [{**GOOD, "file": "/" + "x" * 100_000}],
        "tracer": [{**GOOD, "tracer": "no.such"}],
        "two tracers": [GOOD, {**GOOD, "tracer": "no.such"}],
        "number": [{**GOOD, "numbers": 3}],
        "list": [{**GOOD, "numbers": [3]}],
        "no number": [{**GOOD, "numbers": ""}],
        "float": [{**GOOD, "numbers": "3.5"}],
        "negative": [{**GOOD, "numbers": "-1"}],
        "other digits": [{**GOOD, "numbers": chr(0x663)}],
        "huge": [{**GOOD, "numbers": "1000000000"}],
        "enormous": [{**GOOD, "numbers": "9" * 10_000}],
        "arc": [{**GOOD, "numbers": "1,2"}],
        "too many": [{**GOOD, "numbers": "3 " * 1000 + "3"}],
        "too many files": [{**GOOD, "context": str(number)} for number in range(101)],
        "much space": [
            {**GOOD, "context": str(number), "numbers": "9999999"} for number in range(90)
        ],
        "good and bad": [GOOD, {**GOOD, "numbers": "-1"}],
    }

    @pytest.mark.parametrize("name", FORGED)
    def test_forges(name):
        send(FORGED[name])

    @pytest.mark.parametrize(
        "file", ["/etc/passwd", f"{HERE}/test_it.py", os.__file__, GOOD["file"] + chr(0xD800)]
    )
    def test_names_a_file_outside(file):
        send([{**GOOD, "file": file}])

    def test_honest(): assert covered.sign(1) == 1
"""


def test_forged_data_fails_its_test_and_writes_nothing(runs):
    directory = Path(runs.pytester.path)
    (directory / "covered.py").write_text("def sign(number):\n    return 1\n")
    limits = "coverage.MAX_FILES, coverage.MAX_NUMBERS = 100, 1000"
    (directory / "conftest.py").write_text(f"from minidocker._pytest import coverage\n{limits}\n")
    source = f"{dedent(FORGING)}\npytestmark = pytest.mark.minidocker(profile='untrusted')\n"
    (directory / "test_it.py").write_text(source)
    result = runs.run(directory, "--cov=covered", "--cov-report=", plugins=["pytest_cov"])
    assert result.parseoutcomes() == {"errors": 30, "passed": 35, "warnings": 4}
    refused = [line for line in result.stdout.lines if line.startswith("the test sent malformed")]
    assert len(refused) == 30
    assert not (directory / "written").exists()
    assert {row[0] for row in measured(directory)} == {"/covered.py"}
    # The bits of lines 1 and 2; the forged data name line 3.
    assert {row[3] for row in measured(directory)} == {"06"}
