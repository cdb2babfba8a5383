"""Plugins that measure tests, or show their results."""

import json
import re
import sqlite3
from contextlib import closing
from html import unescape
from pathlib import Path

from support.plugin_matrix.case import Case

SHOWN = """
    import pytest

    @pytest.fixture
    def breaks(): raise OSError("broken")

    def test_passes(): print("fine")
    def test_fails():
        print("before the failure")
        assert [1, 2] == [1, 3]
    def test_breaks(breaks): pass
    @pytest.mark.skip(reason="not now")
    def test_skipped(): pass
    @pytest.mark.xfail(reason="known")
    def test_known(): assert 0
    """
SHOWN_OUTCOMES = {"passed": 1, "failed": 1, "error": 1, "skipped": 1, "xfailed": 1}


def _covered(directory: Path) -> object:
    """Return the measured arcs with their contexts."""
    with closing(sqlite3.connect(directory / ".coverage")) as data:
        rows = data.execute(
            "select file.path, context.context, fromno, tono from arc "
            "join file on file.id = file_id join context on context.id = context_id"
        )
        return sorted((Path(path).name, *rest) for path, *rest in rows)


def _html(directory: Path) -> object:
    """Return the rows of the report, without their durations and the parts that depend on time."""
    text = (directory / "report.html").read_text()
    found = re.search(r'data-jsonblob="([^"]*)"', text)
    assert found is not None
    rows = json.loads(unescape(found[1]))["tests"]
    return {
        name: [(row["result"], row["extras"], "broken" in row["log"]) for row in row_list]
        for name, row_list in rows.items()
    }


def _benchmarks(directory: Path) -> object:
    if not (directory / "results.json").exists():
        return None
    results = json.loads((directory / "results.json").read_text())["benchmarks"]
    return [
        (row["fullname"], row["group"], row["params"], row["extra_info"], row["stats"]["rounds"])
        for row in results
    ]


CASES = [
    Case(
        "pytest-cov",
        ("pytest_cov",),
        """
        import pytest, covered

        @pytest.mark.parametrize("number", [5, -5])
        def test_number(number): assert abs(covered.sign(number)) == 1
        def test_fails(): assert covered.sign(None)
        """,
        {"passed": 2, "failed": 1},
        args=("--cov=covered", "--cov-branch", "--cov-context=test", "--cov-report=term-missing"),
        files={
            "covered.py": """
            def sign(number):
                if number is None:
                    raise ValueError
                if number < 0:
                    return -1
                return 1

            def never():
                return None
            """
        },
        shown=("covered.py * 1 * 92%*10",),
        left=_covered,
    ),
    Case(
        "pytest-sugar",
        ("sugar",),
        SHOWN,
        # It counts each phase that passes, and an error as a failure.
        {"passed": 9, "failed": 2, "skipped": 1, "xfailed": 1},
        args=("--force-sugar",),
    ),
    Case(
        "pytest-instafail",
        ("instafail",),
        SHOWN,
        SHOWN_OUTCOMES,
        args=("--instafail",),
        shown=("*_ test_fails _*", "*_ ERROR at setup of test_breaks _*"),
    ),
    Case(
        "pytest-html",
        ("pytest_html.plugin", "pytest_html.fixtures", "pytest_metadata.plugin"),
        SHOWN
        + """
    def test_extras(extras, metadata):
        import pytest_html
        assert metadata["Python"]
        extras.append(pytest_html.extras.text("a text", "name"))
    """,
        {**SHOWN_OUTCOMES, "passed": 2},
        args=("--html=report.html", "--self-contained-html"),
        left=_html,
    ),
    Case(
        "pytest-benchmark",
        ("benchmark",),
        """
        import pytest

        @pytest.mark.parametrize("size", [10, 20])
        @pytest.mark.benchmark(group="sums")
        def test_sum(benchmark, size):
            benchmark.extra_info["size"] = size
            assert benchmark.pedantic(sum, args=(range(size),), rounds=3, iterations=2) > 0

        def test_not_measured(): pass
        def test_fails(benchmark): assert benchmark.pedantic(sum, args=([],), rounds=4)
        """,
        {"passed": 3, "failed": 1},
        args=("--benchmark-json=results.json",),
        left=_benchmarks,
        shown=("test_fails *", "*- benchmark 'sums': 2 tests -*", "test_sum?*", "test_sum?*"),
        differs_with_xdist=True,
        varies=(r"(?s)-{10,} benchmark.*?Legend:",),
    ),
    Case(
        "pytest-subtests",
        ("pytest_subtests.plugin",),
        """
        def test_parts(subtests):
            for number in range(4):
                with subtests.test("part", number=number):
                    assert number != 2
        def test_good_parts(subtests):
            with subtests.test("good"): pass
        """,
        {"passed": 2, "failed": 1, "subtests passed": 4},
    ),
]
