"""Containers for tests: the values of the fixtures `container` and `container_factory`."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from minidocker._container.container import Container
from minidocker._errors import NotReady, SpawnError, SpecError
from minidocker._fd import above_stdio
from minidocker._pytest.results import marked
from minidocker._pytest.unavailable import unavailable
from minidocker._run import timeouts
from minidocker._spec.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import TypeVar

    import pytest

    from minidocker._run.process import Popen

    Found = TypeVar("Found")

__all__ = ["ContainerFactory", "Service", "TestContainer"]

INTERVAL = 0.01
"""Seconds between the first two checks; the interval grows up to `LONGEST`."""
LONGEST = 0.1
TIMEOUT = 10.0
SHOWN = 4000
"""Number of characters that an error shows of the end of a service's output."""

_LISTENS = {"tcp": "0A", "udp": "07"}


class Service:
    """A command that runs in the background of a container; its output is collected.

    Attributes:
        process: the `minidocker.Popen`.
    """

    def __init__(self, container: TestContainer, args: Any, options: dict[str, Any]) -> None:
        for name in ("stdout", "stderr"):
            if name in options:
                reason = "Service.output collects the output of a service: use popen instead"
                raise SpecError(reason, option=name, value=options[name])
        self.container = container
        words = [args] if isinstance(args, str | bytes | os.PathLike) else args
        self.name = shlex.join(os.fsdecode(word) for word in words)
        # A file, because a service must never wait for a reader. Each write appends to it.
        self._log = above_stdio(os.memfd_create("minidocker-service", os.MFD_CLOEXEC))
        try:
            with open(f"/proc/self/fd/{self._log}", "ab") as end:
                self.process: Popen[Any] = container.popen(
                    args, stdout=end, stderr=subprocess.STDOUT, **options
                )
        except BaseException:
            os.close(self._log)
            raise

    @property
    def output(self) -> str:
        """The output so far, of standard output and standard error together."""
        size = os.fstat(self._log).st_size
        return os.pread(self._log, size, 0).decode(errors="replace")

    def wait_for_log(self, pattern: str, timeout: float = TIMEOUT) -> re.Match[str]:
        """Wait until the output matches a regular expression.

        Args:
            pattern: the regular expression, searched in the whole output; ``^`` and ``$`` match at
                every line.
            timeout: the longest wait, in seconds.

        Raises:
            NotReady: the timeout expired, or the service ended, before the output matched.
        """
        __tracebackhide__ = True
        searched = re.compile(pattern, re.MULTILINE)
        what = f"output that matches {pattern!r}"
        return _wait(what, lambda: searched.search(self.output), timeout, [self], ends=True)

    def wait_for_port(
        self, port: int, timeout: float = TIMEOUT, *, protocol: Literal["tcp", "udp"] = "tcp"
    ) -> None:
        """Wait until a process listens at a port of the container; see `wait_for_log`."""
        __tracebackhide__ = True
        self.container._wait_for_port(port, timeout, protocol, [self], ends=True)

    def wait_for_file(self, path: str | os.PathLike[str], timeout: float = TIMEOUT) -> None:
        """Wait until a path exists in the container; see `wait_for_log`."""
        __tracebackhide__ = True
        self.container._wait_for_file(path, timeout, [self], ends=True)

    def stop(self, timeout: float = TIMEOUT) -> int:
        """Send SIGTERM, kill the service after ``timeout`` seconds, and return its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _close(self) -> None:
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def __repr__(self) -> str:
        state = self.process.poll()
        return f"<Service {self.name!r} {'runs' if state is None else f'ended: {state}'}>"


class TestContainer(Container):
    """A `Container` for tests: it can wait for its services, and collects their output."""

    __test__ = False

    def __init__(self, *, spec: Spec | None = None, **options: Any) -> None:
        super().__init__(spec=spec, **options)
        self.services: list[Service] = []

    def serve(self, args: Any, **options: Any) -> Service:
        """Start a command in the background, as `popen` does, and collect its output."""
        service = Service(self, args, options)
        self.services.append(service)
        return service

    def wait_for_log(self, pattern: str, timeout: float = TIMEOUT) -> re.Match[str]:
        """Wait until the output of one of the services matches a regular expression.

        Raises:
            NotReady: the timeout expired before the output matched.
        """
        __tracebackhide__ = True
        searched = re.compile(pattern, re.MULTILINE)

        def find_match() -> re.Match[str] | None:
            found = (searched.search(service.output) for service in self.services)
            return next((match for match in found if match), None)

        return _wait(f"output that matches {pattern!r}", find_match, timeout, self.services)

    def wait_for_port(
        self, port: int, timeout: float = TIMEOUT, *, protocol: Literal["tcp", "udp"] = "tcp"
    ) -> None:
        """Wait until a process listens at a port of the container's network, at any address.

        Raises:
            NotReady: the timeout expired before a process listened.
        """
        __tracebackhide__ = True
        self._wait_for_port(port, timeout, protocol, self.services)

    def wait_for_file(self, path: str | os.PathLike[str], timeout: float = TIMEOUT) -> None:
        """Wait until a path exists in the container, by running ``test -e`` there.

        Raises:
            NotReady: the timeout expired before the path existed.
        """
        __tracebackhide__ = True
        self._wait_for_file(path, timeout, self.services)

    def _wait_for_port(
        self,
        port: int,
        timeout: float,
        protocol: str,
        services: list[Service],
        *,
        ends: bool = False,
    ) -> None:
        __tracebackhide__ = True
        if type(port) is not int or not 0 < port < 2**16:
            raise SpecError("give a number from 1 to 65535", option="port", value=port)
        if protocol not in _LISTENS:
            raise SpecError("give 'tcp' or 'udp'", option="protocol", value=protocol)

        def listens() -> bool | None:
            return port in _listening(self.pid, protocol)

        what = f"a process that listens at {protocol} port {port}"
        _wait(what, listens, timeout, services, ends)

    def _wait_for_file(
        self,
        path: str | os.PathLike[str],
        timeout: float,
        services: list[Service],
        *,
        ends: bool = False,
    ) -> None:
        __tracebackhide__ = True
        name = os.fspath(path)
        if not os.path.isabs(name):
            raise SpecError("give an absolute path", option="path", value=name)

        def exists() -> bool:
            return self.run(["test", "-e", name]).returncode == 0

        _wait(f"the file {name}", exists, timeout, services, ends)

    def kill(self) -> None:
        """Kill every process of the container."""
        super().kill()
        for service in self.services:
            service.process.poll()


class ContainerFactory:
    """A function that starts containers for one test, all of which end with the test.

    A call takes the arguments of `minidocker.Container`. The default hostname consists of the name
    of the pytest-xdist worker (``gw0``; ``master`` without xdist) and a number.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._containers: list[TestContainer] = []
        workers: dict[str, Any] = getattr(request.config, "workerinput", {})
        self._worker = workers.get("workerid", "master")
        self._numbers = itertools.count(1)

    def __call__(self, *, spec: Spec | None = None, **options: Any) -> TestContainer:
        """Start a container.

        Raises:
            SpecError: the options are wrong on any machine; no container was created.
        """
        asked = Spec.of(spec, options)
        if asked.hostname is None and asked.namespaces.uts:
            asked = Spec.of(asked, {"hostname": f"{self._worker}-{next(self._numbers)}"})
        container = TestContainer(spec=asked)
        try:
            container.start()
        except SpawnError as error:
            unavailable(self._request.config, error, options, "a container for the test")
        self._containers.append(container)
        return container

    def marked(self) -> TestContainer:
        """Start the container described by the test's markers ``minidocker_container``."""
        marker = "minidocker_container"
        try:
            return self(**marked(self._request.node, marker))
        except SpecError as error:
            unavailable(self._request.config, error, {}, f"@pytest.mark.{marker}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.ExitStack() as stack:
            for container in self._containers:
                stack.callback(self._end, container)

    def _end(self, container: TestContainer) -> None:
        try:
            container.kill()
        finally:
            for service in container.services:
                if output := service.output:
                    key = f"output of {service.name} in {container.spec.hostname or 'container'}"
                    self._request.node.add_report_section("teardown", key, output)
                service._close()


def _wait(
    what: str,
    check: Callable[[], Found | None],
    timeout: float,
    services: list[Service],
    ends: bool = False,
) -> Found:
    """Call ``check`` until it returns a true value.

    Args:
        what: the awaited event, for the error message.
        check: returns a true value after the event.
        timeout: the longest wait, in seconds.
        services: the services whose output the error message shows.
        ends: whether to stop waiting when the only service ends.
    """
    # Show the test's own line in the traceback.
    __tracebackhide__ = True
    deadline = timeouts.deadline_after(timeouts.seconds(timeout))
    interval = INTERVAL
    while True:
        # Poll before the check, which then sees everything the service did before its end.
        ended = ends and services[0].process.poll() is not None
        if found := check():
            return found
        if ended:
            status = services[0].process.returncode
            raise NotReady(
                f"stopped waiting for {what}: {_describe(services, f'ended with {status}')}"
            )
        left = math.inf if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise NotReady(f"waited {timeout:g} seconds for {what}: {_describe(services)}")
        time.sleep(min(interval, left))
        interval = min(interval * 1.5, LONGEST)


def _describe(services: list[Service], state: str | None = None) -> str:
    if not services:
        return "serve() started no service in the container"
    parts = []
    for service in services:
        status = service.process.poll()
        ending = state or ("runs" if status is None else f"ended with {status}")
        output = service.output
        cut = "[...]" if len(output) > SHOWN else ""
        wrote = f"and wrote:\n{cut}{output[-SHOWN:]}" if output else "and wrote nothing"
        parts.append(f"{service.name!r} {ending} {wrote}")
    return "\n".join(parts)


def _listening(pid: int, protocol: str) -> set[int]:
    """Return the listening ports of a process's network namespace, of IPv4 and IPv6."""
    ports = set()
    for table in (protocol, f"{protocol}6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == _LISTENS[protocol]:
                    ports.add(int(local.rpartition(":")[2], 16))
    return ports
