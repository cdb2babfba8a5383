"""Plugins that change the surroundings of a test."""

from pathlib import Path

from support.plugin_matrix.case import Case


def _snapshots(directory: Path) -> object:
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in sorted(directory.glob("__snapshots__/**/*"))
        if path.is_file()
    }


CASES = [
    Case(
        "pytest-mock",
        ("pytest_mock",),
        """
        import os, pytest

        @pytest.fixture(scope="module")
        def shared(module_mocker): return module_mocker.patch("os.getcwd", return_value="/shared")

        def test_patches(mocker):
            mocker.patch("os.listdir", return_value=["a"])
            assert os.listdir("/") == ["a"]
        def test_is_undone(): assert os.listdir("/") != ["a"]
        def test_shared(shared):
            assert os.getcwd() == "/shared"
            shared.assert_called_once_with()
        def test_fails(mocker):
            stub = mocker.stub()
            stub(1, two=2)
            stub.assert_called_once_with(1, two=3)
        """,
        {"passed": 3, "failed": 1},
        shown=("*Actual: mock(1, two=2)*",),
    ),
    Case(
        "pytest-env",
        ("env",),
        """
        import os, pytest

        @pytest.fixture(scope="session")
        def shared(): return os.environ["SOME_NAME"]

        def test_sees(shared): assert os.environ["SOME_NAME"] == shared == "a value"
        def test_fails(): assert os.environ["SOME_NAME"] == "another"
        """,
        {"passed": 1, "failed": 1},
        files={"pytest.ini": "[pytest]\nenv =\n    SOME_NAME=a value\n"},
    ),
    Case(
        "pytest-freezer",
        ("freezer",),
        """
        import datetime, time, pytest, freezegun

        @pytest.fixture(scope="module")
        def shared():
            with freezegun.freeze_time("2001-01-01"):
                yield

        @pytest.mark.freeze_time("2020-02-02")
        def test_marked(): assert datetime.date.today() == datetime.date(2020, 2, 2)
        def test_moves(freezer):
            freezer.move_to("2030-03-03")
            before = time.monotonic()
            assert datetime.date.today().year == 2030
            freezer.tick(60)
            assert time.monotonic() - before == 60
        def test_fails(freezer):
            freezer.move_to("2030-03-03")
            assert datetime.date.today() == datetime.date(2030, 3, 4)
        def test_moves_on(): assert datetime.date.today().year > 2020
        def test_shared(shared): assert time.time() == 978307200
        """,
        {"passed": 4, "failed": 1},
    ),
    Case(
        "pyfakefs",
        ("fakefs",),
        """
        import os, pathlib, pytest

        def test_own(fs):
            fs.create_file("/made/up", contents="text")
            assert pathlib.Path("/made/up").read_text() == "text"
            assert not os.path.exists(__file__)
            os.remove("/made/up")
        def test_fails(fs):
            fs.create_dir("/made")
            print("before the failure")
            assert os.listdir("/made") == ["up"]
        def test_real(): assert os.path.exists(__file__)
        def test_shared(fs_module):
            pathlib.Path("/shared").write_text("text")
            assert sorted(os.listdir("/")) == ["shared", "tmp"]
        def test_shared_fails(fs_module): assert os.path.exists(__file__)
        """,
        {"passed": 3, "failed": 2},
        shown=("*before the failure*",),
    ),
    Case(
        "syrupy",
        ("syrupy",),
        """
        import pytest

        def test_same(snapshot): assert {"a": 1} == snapshot
        def test_changed(snapshot): assert [1, 2] == snapshot
        def test_new(snapshot):
            assert "first" == snapshot
            assert "second" == snapshot(name="named")
        @pytest.mark.parametrize("number", [1, 2])
        def test_many(snapshot, number): assert number == snapshot
        """,
        {"passed": 5},
        args=("--snapshot-update",),
        files={
            "__snapshots__/test_it.ambr": """\
            # serializer version: 1
            # name: test_changed
              list([
                1,
              ])
            # ---
            # name: test_gone
              'unused'
            # ---
            # name: test_many[1]
              1
            # ---
            # name: test_same
              dict({
                'a': 1,
              })
            # ---
            """
        },
        shown=("*2 snapshots passed. 3 snapshots generated. 1 snapshot updated.*",),
        left=_snapshots,
    ),
    Case(
        "pytest-socket",
        ("pytest_socket",),
        """
        import asyncio, socket, pytest

        def test_blocked():
            socket.socket(socket.AF_INET)
        @pytest.mark.enable_socket
        def test_enabled():
            with socket.create_server(("127.0.0.1", 0)): pass
        def test_fixture(socket_enabled):
            with socket.create_server(("127.0.0.1", 0)): pass
        @pytest.mark.allow_hosts(["127.0.0.2"])
        def test_hosts():
            with socket.socket(socket.AF_INET) as client:
                client.connect(("127.0.0.1", 9))
        """,
        {"passed": 2, "failed": 2},
        args=("--disable-socket",),
        shown=(
            "*SocketBlockedError: A test tried to use socket.socket.*",
            "*SocketConnectBlockedError: A test tried to use socket.socket.connect()*",
        ),
    ),
    Case(
        "pytest-httpserver",
        ("pytest_httpserver",),
        """
        import urllib.request, pytest

        def get(url):
            with urllib.request.urlopen(url) as answer:
                return answer.read().decode()

        @pytest.mark.parametrize("number", [1, 2])
        def test_answers(httpserver, number):
            httpserver.expect_oneshot_request("/one").respond_with_data(f"text {number}")
            assert get(httpserver.url_for("/one")) == f"text {number}"
            httpserver.check_assertions()
        def test_fails(httpserver):
            with pytest.raises(OSError, match="500"):
                get(httpserver.url_for("/other"))
            httpserver.check_assertions()
        """,
        {"passed": 2, "failed": 1},
        # The port, and the time of each request in the log.
        varies=(r"localhost[: ](port=)?\d+", r"\[../.../.... ..:..:..\]"),
    ),
]
