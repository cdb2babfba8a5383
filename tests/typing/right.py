"""Right uses of the public API, with their types. Type checkers read this file; nothing runs it."""

import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any, assert_type

import minidocker
from minidocker import CompletedProcess, Container, Mount, NamespaceOptions, Popen, Seccomp, Spec

spec = Spec(hostname="box", user="nobody", mounts=[Mount("/data", Path("/srv"), read_only=True)])


def length(text: str, *, double: bool = False) -> int:
    return len(text) * (2 if double else 1)


# --- run ---------------------------------------------------------------------------------------

assert_type(minidocker.run(["true"]), CompletedProcess[bytes])
assert_type(minidocker.run("true", shell=True, check=True, timeout=1.5), CompletedProcess[bytes])
assert_type(minidocker.run(["cat"], input=b"x", capture_output=True), CompletedProcess[bytes])
assert_type(minidocker.run(["yes"], stdout=-1, output_limit=10).limit_hit, str | None)
assert_type(minidocker.run(["cat"], input="x", text=True), CompletedProcess[str])
assert_type(minidocker.run(["cat"], encoding="utf-8"), CompletedProcess[str])
assert_type(minidocker.run(["cat"], errors="replace"), CompletedProcess[str])
assert_type(minidocker.run(["cat"], universal_newlines=True), CompletedProcess[str])
assert_type(minidocker.run(["true"], text=False), CompletedProcess[bytes])
assert_type(minidocker.run(["true"], text=len(sys.argv) > 1), CompletedProcess[Any])
assert_type(minidocker.run(["true"], spec=spec, hostname="other").stdout, bytes)
assert_type(minidocker.run(["true"], text=True).stdout, str)
minidocker.run(
    [Path("/bin/true"), b"x"],
    cwd=Path("/"),
    env={"A": "1"},
    user=1000,
    group="users",
    stdin=subprocess.DEVNULL,
    pass_fds=(3,),
    namespaces=NamespaceOptions.all().without_net(),
    uid_map="auto",
    gid_map=[(0, 1000, 1)],
    network="host",
    tmpfs={"/scratch": "size=1m"},
    overlay=Path("/srv/layer"),
    profile="docker",
    cap_add=["NET_ADMIN"],
    seccomp=Seccomp(deny=["ptrace"]),
    ulimits={"nofile": 1024, "core": (0, -1)},
    time_offsets={"monotonic": 1.5},
)

# --- Popen -------------------------------------------------------------------------------------

assert_type(Popen(["true"]), Popen[bytes])
assert_type(Popen(["true"], -1, None, subprocess.PIPE, hostname="x"), Popen[bytes])
assert_type(Popen(["true"], text=True, spec=spec), Popen[str])
assert_type(Popen(["true"], encoding="utf-8", user="nobody"), Popen[str])
assert_type(Popen(["true"], universal_newlines=True, init=True), Popen[str])
process: subprocess.Popen[bytes] = Popen(["true"])

# --- containers --------------------------------------------------------------------------------

with Container(hostname="db", user="nobody", init=True) as box:
    assert_type(box, Container)
    assert_type(box.run(["true"], check=True), CompletedProcess[bytes])
    assert_type(box.run(["true"], text=True, cwd="/", user=0), CompletedProcess[str])
    assert_type(box.popen(["true"], encoding="utf-8", profile="untrusted"), Popen[str])
    assert_type(box.popen(["true"]), Popen[bytes])
    assert_type(box.call(length, "text", double=True), int)
    minidocker.run(["true"], network=box)
assert_type(minidocker.attach(1).run(["true"], text=True), CompletedProcess[str])
assert_type(minidocker.attach(1).status, str)

# --- functions ---------------------------------------------------------------------------------

assert_type(minidocker.call(length, "text", double=True), int)
assert_type(minidocker.call(len, "text"), int)
# With spec, type checkers do not check the other arguments.
assert_type(minidocker.call(length, "text", spec=spec), int)


@minidocker.isolated
def plain(number: int) -> str:
    return str(number)


@minidocker.isolated(hostname="lab", user="nobody", method="spawn", preload=["math"], timeout=10)
def configured(number: int, *, sign: bool = False) -> str:
    return str(-number if sign else number)


assert_type(plain(1), str)
assert_type(configured(1, sign=True), str)
assert_type(configured.run(1).value, str)


class Lab:
    @minidocker.isolated
    def grow(self, number: int) -> int:
        return number + 1

    @minidocker.isolated(hostname="lab")
    def shrink(self, number: int, *, twice: bool = False) -> str:
        return str(number - 2 if twice else number - 1)


assert_type(Lab().grow(1), int)
assert_type(Lab().shrink(1, twice=True), str)
assert_type(Lab().shrink.run(number=1).value, str)
assert_type(Lab.grow(Lab(), 1), int)

assert_type(minidocker.isolated(spec=spec, result="json")(length)("text"), int)

with minidocker.ContainerExecutor(2, spec=spec, hostname="lab", user=0, preload=["math"]) as pool:
    assert_type(pool.submit(length, "text", double=True), Future[int])
    assert_type(list(pool.map(length, ["a", "b"])), list[int])


async def fetch(number: int) -> str:
    return str(number)


@minidocker.isolated
async def fetch_inside(number: int) -> str:
    return str(number)


# An async function is called without await.
assert_type(minidocker.call(fetch, 1), str)
assert_type(minidocker.isolated(hostname="lab")(fetch)(1), str)
assert_type(fetch_inside(1), str)
assert_type(fetch_inside.run(1).value, str)

# --- explain, aio ------------------------------------------------------------------------------

assert_type(minidocker.explain(["true"], hostname="x", user=0, text=True), minidocker.Plan)


async def commands() -> None:
    assert_type(await minidocker.aio.run(["true"], text=True), CompletedProcess[str])
    assert_type(await minidocker.aio.run(["true"], spec=spec), CompletedProcess[bytes])
    started = await minidocker.aio.create_subprocess_exec("cat", b"x", stdin=-1, hostname="x")
    assert_type(started, minidocker.aio.AsyncProcess)
    assert_type(started.limit_hit, str | None)
    await minidocker.aio.create_subprocess_shell("true", profile="untrusted", user="nobody")
