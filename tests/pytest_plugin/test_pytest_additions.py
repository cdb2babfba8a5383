"""What a test in a container adds to the data of other plugins, and fixtures that tests share."""

import pytest

SEND = """
    import gc, os, pytest
    HERE = os.path.dirname(__file__)

    def send(**data):
        "Send these data as what this test adds to the data of plugins."
        [inside] = [each for each in gc.get_objects() if type(each).__name__ == "Inside"]
        inside._pack_plugins = lambda: data
"""


def test_forged_measurements_fail_their_test(runs):
    result = runs(
        SEND
        + """
    GOOD = {"group": None, "iterations": 1, "durations": [0.5], "options": {}, "extra_info": {},
            "has_error": False}
    FORGED = {
        "text": "measured",
        "dictionary": GOOD,
        "field": [{**GOOD, "more": 1}],
        "missing": [{"iterations": 1}],
        "group": [{**GOOD, "group": ["a"]}],
        "no iterations": [{**GOOD, "iterations": 0}],
        "true": [{**GOOD, "iterations": True}],
        "huge": [{**GOOD, "iterations": 10**400}],
        "negative": [{**GOOD, "durations": [0.5, -0.5]}],
        "no number": [{**GOOD, "durations": ["0.5"]}],
        "options": [{**GOOD, "options": [1]}],
        "option": [{**GOOD, "options": {"timer": {}}}],
        "has_error": [{**GOOD, "has_error": 1}],
        "good and bad": [GOOD, {**GOOD, "iterations": -1}],
    }

    @pytest.mark.parametrize("name", FORGED)
    def test_forges(name): send(benchmark=FORGED[name])
    def test_names_no_plugin(): send(nosuch=[])
    def test_honest(benchmark): benchmark.pedantic(int, rounds=2)
    """,
        "--minidocker",
        plugins=["benchmark"],
    )
    assert result.parseoutcomes() == {"passed": 16, "errors": 15}
    text = result.stdout.str()
    assert text.count("the test sent malformed data during its teardown") >= 15
    result.stdout.fnmatch_lines(["*benchmark: 1 tests*", "test_honest *"])


def test_measurements_of_a_session_that_has_none_fail_their_test(runs):
    result = runs(
        SEND
        + """
    PLUGINS = {
        "benchmark": {"group": None, "iterations": 1, "durations": [1], "options": {},
                      "extra_info": {}, "has_error": False},
        "syrupy": {"extension": ["a", "b"], "results": []},
        "coverage": {"context": "", "file": "/a", "tracer": "", "numbers": "1"},
    }

    @pytest.mark.parametrize("name", PLUGINS)
    def test_forges(name): send(**{name: [PLUGINS[name]]})
    """,
        "--minidocker",
    )
    assert result.parseoutcomes() == {"passed": 3, "errors": 3}


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_forged_snapshots_delete_no_file(runs, workers):
    for name in ("target.ambr.lock", "target.ambr.tmp"):
        (runs.pytester.path / name).touch()
    result = runs(
        SEND
        + """
    AMBER = ["syrupy.extensions.amber", "AmberSnapshotExtension"]

    def used(location, extension=AMBER):
        result = {"location": location, "name": "a", "created": True, "updated": False,
                  "success": True}
        return [{"extension": extension, "results": [result]}]

    FORGED = {
        "outside": used(f"{HERE}/target.ambr"),
        "climbing": used(f"{HERE}/__snapshots__/../target.ambr"),
        "beside": used(f"{HERE}/__snapshots__x/target.ambr"),
        "relative": used("target.ambr"),
        "empty": used(""),
        "not an extension": used(f"{HERE}/target.ambr", ["os", "_wrap_close"]),
        "text": "snapshots",
        "number": used(5),
        "results": [{"extension": AMBER, "results": 5}],
    }

    @pytest.mark.parametrize("name", FORGED)
    def test_forges(name): send(syrupy=FORGED[name])
    def test_honest(snapshot): assert 5 == snapshot
    """,
        "--minidocker",
        "--snapshot-update",
        *workers,
        plugins=["syrupy", "xdist"],
    )
    assert result.parseoutcomes()["errors"] == 9
    result.stdout.fnmatch_lines(["*1 snapshot generated.*"])
    left = {path.name for path in runs.pytester.path.glob("*.ambr.*")}
    assert left == {"target.ambr.lock", "target.ambr.tmp"}
    assert {path.name for path in runs.pytester.path.glob("__snapshots__/*")} == {
        "test_forged_snapshots_delete_no_file.ambr"
    }


def test_a_forged_extra_of_pytest_html_writes_no_file(runs):
    runs.pytester.path.joinpath("victim").write_text("kept")
    result = runs(
        """
        import os, pytest, pytest_html
        HERE = os.path.dirname(__file__)

        def test_forges(extras):
            # The plugin takes the last 255 characters, which are an absolute path here.
            path = "/." * 200 + f"{HERE}/victim"
            extras.append(pytest_html.extras.extra("forged", "text", "name", None, path))
        def test_honest(extras): extras.append(pytest_html.extras.text("a text"))
        """,
        "--minidocker",
        "--html=report.html",
        plugins=["pytest_metadata.plugin", "pytest_html.plugin", "pytest_html.fixtures"],
    )
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(["*pytest-html: *"])
    assert runs.pytester.path.joinpath("victim").read_text() == "kept"
    assert len(list(runs.pytester.path.glob("assets/*.txt"))) == 1


def test_a_wider_fixture_is_not_torn_down_in_a_container(runs):
    result = runs(
        """
        import gc, os, tempfile, pytest

        @pytest.fixture(scope="module")
        def directory():
            with tempfile.TemporaryDirectory() as path:
                yield path

        @pytest.fixture(scope="session")
        def noted():
            try:
                yield
            finally:
                print("torn down in", os.getpid())

        @pytest.fixture(scope="class", params=[1, 2])
        def of_a_class(request, noted):
            with open(f"noted-{request.param}", "w"):
                yield
            os.remove(f"noted-{request.param}")

        class TestIt:
            @pytest.mark.parametrize("number", range(3))
            def test_has_it(self, directory, of_a_class, number):
                gc.collect()
                assert os.listdir(directory) == [str(each) for each in range(number)]
                with open(f"{directory}/{number}", "w"): pass
                if number == 2:
                    for name in os.listdir(directory):
                        os.remove(f"{directory}/{name}")
        """,
        "--minidocker",
        "-s",
    )
    assert result.parseoutcomes() == {"passed": 6}
    assert result.stdout.str().count("torn down in") == 1
    assert "torn down in 2\n" not in result.stdout.str()
    assert not list(runs.pytester.path.glob("noted-*"))


def test_a_clock_that_a_wider_fixture_freezes_delays_no_timeout(runs):
    result = runs(
        """
        import os, time, freezegun, pytest

        @pytest.fixture(scope="module", autouse=True)
        def frozen():
            with freezegun.freeze_time("2001-01-01"):
                yield

        @pytest.mark.minidocker(timeout=0.5)
        def test_hangs(): os.read(os.pipe()[0], 1)
        @pytest.mark.minidocker
        def test_does_not(): assert time.time() == time.time() == 978307200
        """
    )
    assert result.parseoutcomes() == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(["the test had not ended after 0.5 seconds"])


def test_a_warning_of_a_category_that_takes_no_text_is_shown(runs):
    result = runs(
        """
        import warnings, pytest

        class ByCode(UserWarning):
            def __init__(self, code): super().__init__({1: "first code"}[code])
        class Later(UserWarning):
            def __init__(self, place): self.place = place
            def __str__(self): return f"later at {self.place[0]}"
        class Strict(UserWarning):
            def __init__(self, number): self.number = number / 1
            def __str__(self): return f"number {self.number}"

        @pytest.mark.parametrize("warning", [ByCode(1), Later(["here"]), Strict(3)], ids=str)
        def test_warns(warning): warnings.warn(warning)
        """,
        "--minidocker",
    )
    assert result.parseoutcomes() == {"passed": 3, "warnings": 3}
    for text in ("*ByCode: first code", "*Later: later at here", "*Strict: number 3.0"):
        result.stdout.fnmatch_lines([text])
