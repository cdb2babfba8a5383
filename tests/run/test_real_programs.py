"""Common programs work under the profiles "docker" and "untrusted"."""

import shutil
import subprocess
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount, isolated
from support.attack import interpreter
from support.places import TESTS
from support.rootfs import make_rootfs

SOURCES = [Mount(TESTS, TESTS, read_only=True)]
BOTH = pytest.mark.parametrize("profile", ["docker", "untrusted"])


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"no {program} here")


def run(*words, **options):
    """Run a program that must succeed, and return its output."""
    options.setdefault("env", {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"})
    options.setdefault("cwd", "/tmp")
    done = minidocker.run(words, capture_output=True, text=True, timeout=60, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def python(script, **options):
    return run(interpreter(), "-I", "-c", script, **options)


# --- Python --------------------------------------------------------------------------------------


def solve():
    import numpy as np  # noqa: PLC0415 - the test imports it inside

    matrix = np.arange(90_000, dtype=float).reshape(300, 300) + np.eye(300) * 1e5
    solution = np.linalg.solve(matrix, matrix @ np.ones(300))
    return float(abs(solution - 1).max()), float(np.random.default_rng(1).normal(size=1000).std())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_numpy_computes(method):
    pytest.importorskip("numpy", reason="numpy is not installed")
    worst, spread = isolated(
        method=method, profile="untrusted", mounts=SOURCES, result="json", timeout=60
    )(solve)()
    assert worst < 1e-6
    assert 0.9 < spread < 1.1


@BOTH
def test_sqlite_writes_a_database(profile):
    script = """
import sqlite3
for mode in ("delete", "wal"):
    with sqlite3.connect(f"/dev/shm/{mode}.db") as db:
        db.execute(f"pragma journal_mode={mode}")
        db.execute("create table squares (n integer primary key, square integer)")
        db.executemany("insert into squares values (?, ?)", ((n, n * n) for n in range(1000)))
        db.commit()
    with sqlite3.connect(f"/dev/shm/{mode}.db") as db:
        print(db.execute("select sum(square) from squares").fetchone()[0])
"""
    assert python(script, profile=profile) == "332833500\n" * 2


POOL = """
import concurrent.futures, math, multiprocessing, sys
# With "spawn" and "forkserver" each worker imports this file.
if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            print(method, sum(pool.map(math.factorial, range(10))))
        with context.Pool(2) as pool:
            print(method, sum(pool.map(math.factorial, range(10))))
"""


@BOTH
def test_pools_of_processes_work(profile):
    program = Mount("/dev/shm/pool.py", content=POOL)
    words = (interpreter(), "-I", "/dev/shm/pool.py")
    lines = run(*words, profile=profile, mounts=[program]).splitlines()
    assert lines == [f"{method} 409114" for method in ("fork", "spawn", "forkserver") for _ in "12"]


@BOTH
def test_a_web_server_is_reached_on_loopback(profile):
    script = """
import http.server, threading, urllib.request
server = http.server.ThreadingHTTPServer(("127.0.0.1", 80), http.server.SimpleHTTPRequestHandler)
server.RequestHandlerClass.log_message = lambda *_: None
threading.Thread(target=server.serve_forever, daemon=True).start()
with urllib.request.urlopen("http://localhost/") as answer:
    print(answer.status, b"<title>" in answer.read())
server.shutdown()
"""
    # Only docker's profile has CAP_NET_BIND_SERVICE, which port 80 needs.
    if profile == "untrusted":
        script = script.replace("80)", "8080)").replace("localhost/", "localhost:8080/")
    assert python(script, profile=profile, cwd="/usr") == "200 True\n"


# --- other programs ------------------------------------------------------------------------------


@BOTH
@needs("git")
def test_git_clones_and_commits(profile):
    script = """
mkdir -p /dev/shm/one && cd /dev/shm/one && git init -q -b main .
echo hello > file && git add file
git -c user.name=x -c user.email=x@example.org commit -qm first
git clone -q /dev/shm/one /dev/shm/two && cd /dev/shm/two && git log --format=%s && cat file
"""
    assert run("sh", "-c", script, profile=profile) == "first\nhello\n"


@BOTH
@needs("gcc")
def test_gcc_compiles_a_program_that_runs(profile):
    script = """
cat > main.c <<'END'
#include <math.h>
#include <stdio.h>
int main(void) { printf("%.3f\\n", sqrt(2)); return 0; }
END
gcc -O1 -o main main.c -lm && ./main
"""
    # As in docker, /dev/shm is noexec; under "docker" /tmp would be the host's.
    options = (
        {} if profile == "untrusted" else {"mounts": [Mount("/tmp", type="tmpfs", options="exec")]}
    )
    assert run("sh", "-c", script, profile=profile, **options) == "1.414\n"


@BOTH
def test_a_busybox_root_has_its_shell_and_programs(profile, tmp_path):
    root = make_rootfs(tmp_path / "root")
    script = "ls / | wc -l; ps | grep -c sh; hostname; id -u; df / | wc -l"
    done = run(
        "/bin/sh", "-c", script, rootfs=root, profile=profile, hostname="lab", cwd="/",
        env={"PATH": "/bin"},
    )  # fmt: skip
    assert done.splitlines()[2:4] == ["lab", "0"]


# --- packages ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Build a Debian package of one program, with a postinst script."""
    for program in ("dpkg", "dpkg-deb", "apt-get"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here")
    directory = tmp_path_factory.mktemp("package")
    tree = directory / "tree"
    (tree / "DEBIAN").mkdir(parents=True, mode=0o755)
    (tree / "DEBIAN/control").write_text(
        "Package: minidocker-test\nVersion: 1\nArchitecture: all\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: a test\n"
    )
    (tree / "DEBIAN/postinst").write_text(
        "#!/bin/sh\nset -e\nadduser --system --group --quiet minidocker-package || "
        "useradd --system minidocker-package\n"
    )
    (tree / "DEBIAN/postinst").chmod(0o755)
    (tree / "usr/bin").mkdir(parents=True, mode=0o755)
    program = tree / "usr/bin/minidocker-test-apt"
    program.write_text("#!/bin/sh\nid -un minidocker-package\n")
    program.chmod(0o755)
    archive = directory / "minidocker-test.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", tree, archive],
        check=True,
        capture_output=True,
    )
    return archive


@pytest.mark.root(reason="packages belong to root")
@pytest.mark.may_skip_in_ci(reason="not every distribution is Debian's")
@pytest.mark.parametrize("profile", ["namespaces", "docker"])
@pytest.mark.parametrize("installer", ["dpkg -i", "apt-get install -y -q"])
def test_packages_are_installed_on_an_overlay_of_the_host(package, profile, installer):
    script = f"{installer} /mnt/minidocker-test.deb > /dev/null 2>&1; minidocker-test-apt"
    done = minidocker.run(
        ["sh", "-c", script],
        overlay=True,
        mounts=[Mount("/mnt", str(package.parent), read_only=True)],
        profile=profile,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "minidocker-package\n", done.stderr
    assert not Path("/usr/bin/minidocker-test-apt").exists()
    assert "minidocker-package" not in Path("/etc/passwd").read_text()
