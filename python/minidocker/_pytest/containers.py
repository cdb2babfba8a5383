"""Containers for tests: what the fixtures `container` and `container_factory` give."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from minidocker._errors import NotReady, SpawnError, SpecError
from minidocker._pytest.report import marked
from minidocker._pytest.unavailable import unavailable
from minidocker._run.container import Container
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
"""Seconds between two looks, at first; it grows."""
LONGEST = 0.1
TIMEOUT = 10.0
SHOWN = 4000
"""Characters of output that an error shows, from the end."""

_LISTENS = {"tcp": "0A", "udp": "07"}


class Service:
    """A command that runs on in a container; what it writes is collected.

    Attributes:
        process: the `minidocker.Popen`.
    """

    def __init__(self, container: TestContainer, args: Any, options: dict[str, Any]) -> None:
        for name in ("stdout", "stderr"):
            if name in options:
                reason = "a service's output is collected, see Service.output: use popen instead"
                raise SpecError(reason, option=name, value=options[name])
        self.container = container
        words = [args] if isinstance(args, str | bytes | os.PathLike) else args
        self.name = shlex.join(os.fsdecode(word) for word in words)
        # A file, so that a service never waits for a reader. Each write goes to its end.
        self._log = os.memfd_create("minidocker-service", os.MFD_CLOEXEC)
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
        """What it has written so far, on standard output and standard error."""
        size = os.fstat(self._log).st_size
        return os.pread(self._log, size, 0).decode(errors="replace")

    def wait_for_log(self, pattern: str, timeout: float = TIMEOUT) -> re.Match[str]:
        """Wait until it has written something that a regular expression finds.

        Args:
            pattern: searched for in all of the output, with ``^`` and ``$`` at every line.
            timeout: seconds.

        Raises:
            NotReady: it did not, in that time; or it ended without.
        """
        __tracebackhide__ = True
        searched = re.compile(pattern, re.MULTILINE)
        what = f"output that matches {pattern!r}"
        return _wait(what, lambda: searched.search(self.output), timeout, [self], ends=True)

    def wait_for_port(
        self, port: int, timeout: float = TIMEOUT, *, protocol: Literal["tcp", "udp"] = "tcp"
    ) -> None:
        """Wait until something listens at a port of the container; see `wait_for_log`."""
        __tracebackhide__ = True
        self.container._wait_for_port(port, timeout, protocol, [self], ends=True)

    def wait_for_file(self, path: str | os.PathLike[str], timeout: float = TIMEOUT) -> None:
        """Wait until a path exists inside; see `wait_for_log`."""
        __tracebackhide__ = True
        self.container._wait_for_file(path, timeout, [self], ends=True)

    def stop(self, timeout: float = TIMEOUT) -> int:
        """Ask it to end (SIGTERM), kill it when the time is up, and return its exit status."""
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
    """A `Container` for tests: what runs in it can be waited for, and its output is kept."""

    __test__ = False

    def __init__(self, *, spec: Spec | None = None, **options: Any) -> None:
        super().__init__(spec=spec, **options)
        self.services: list[Service] = []

    def serve(self, args: Any, **options: Any) -> Service:
        """Start a command that runs on, with the meaning of `popen`; its output is collected."""
        service = Service(self, args, options)
        self.services.append(service)
        return service

    def wait_for_log(self, pattern: str, timeout: float = TIMEOUT) -> re.Match[str]:
        """Wait until one of its services has written what a regular expression finds.

        Raises:
            NotReady: none did, in that time.
        """
        __tracebackhide__ = True
        searched = re.compile(pattern, re.MULTILINE)

        def look() -> re.Match[str] | None:
            found = (searched.search(service.output) for service in self.services)
            return next((match for match in found if match), None)

        return _wait(f"output that matches {pattern!r}", look, timeout, self.services)

    def wait_for_port(
        self, port: int, timeout: float = TIMEOUT, *, protocol: Literal["tcp", "udp"] = "tcp"
    ) -> None:
        """Wait until something listens at a port of its network, whatever the address.

        Raises:
            NotReady: nothing did, in that time.
        """
        __tracebackhide__ = True
        self._wait_for_port(port, timeout, protocol, self.services)

    def wait_for_file(self, path: str | os.PathLike[str], timeout: float = TIMEOUT) -> None:
        """Wait until a path exists, as a process inside sees it: ``test -e`` is run there.

        Raises:
            NotReady: it did not, in that time.
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

        def look() -> bool | None:
            return port in _listening(self.pid, protocol)

        _wait(f"a process that listens at {protocol} port {port}", look, timeout, services, ends)

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

        def look() -> bool:
            return self.run(["test", "-e", name]).returncode == 0

        _wait(f"the file {name}", look, timeout, services, ends)

    def kill(self) -> None:
        """End every process inside, at once."""
        super().kill()
        for service in self.services:
            service.process.poll()


class ContainerFactory:
    """Starts containers for one test, and ends all of them with it.

    Calling it takes what `minidocker.Container` takes. Where no hostname is given, it is made of
    the name of the process of pytest-xdist (``gw0``; ``master`` without it) and a number.
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
            SpecError: wrong on any machine; nothing was created.
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
        """Start the container that the test's markers ``minidocker_container`` describe."""
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
    look: Callable[[], Found | None],
    timeout: float,
    services: list[Service],
    ends: bool = False,
) -> Found:
    """Look until there is something; ``ends``: as long as the only service runs."""
    # What is of interest is where the test waited.
    __tracebackhide__ = True
    deadline = time.monotonic() + timeout
    interval = INTERVAL
    while True:
        # Looked at first: what it wrote before its end counts.
        ended = ends and services[0].process.poll() is not None
        if found := look():
            return found
        if ended:
            status = services[0].process.returncode
            raise NotReady(f"{what} never came: {_shown(services, f'ended with {status}')}")
        if time.monotonic() >= deadline:
            raise NotReady(f"{what} had not come after {timeout:g} seconds: {_shown(services)}")
        time.sleep(min(interval, max(0.0, deadline - time.monotonic())))
        interval = min(interval * 1.5, LONGEST)


def _shown(services: list[Service], state: str | None = None) -> str:
    if not services:
        return "nothing was started by serve() there"
    parts = []
    for service in services:
        status = service.process.poll()
        said = state or ("runs" if status is None else f"ended with {status}")
        output = service.output
        cut = "[...]" if len(output) > SHOWN else ""
        told = f"and wrote:\n{cut}{output[-SHOWN:]}" if output else "and wrote nothing"
        parts.append(f"{service.name!r} {said} {told}")
    return "\n".join(parts)


def _listening(pid: int, protocol: str) -> set[int]:
    """The ports of a process's network that something listens at, in IPv4 or IPv6."""
    ports = set()
    for table in (protocol, f"{protocol}6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == _LISTENS[protocol]:
                    ports.add(int(local.rpartition(":")[2], 16))
    return ports
