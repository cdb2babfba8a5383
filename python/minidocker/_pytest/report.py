"""What a test in a container sends to the pytest outside, and what becomes of it there.

The two are one program, but what is inside may be broken by the test, or be code that nobody
trusts. So it sends JSON, one message a line, and nothing that is unpickled or called:

``{"report": ..., "phase": "setup"}``
    A report, as ``pytest_report_to_serializable`` makes it. ``phase`` is there once a phase of the
    test has ended, and missing for the reports that a phase gives on its way, such as a subtest's.
    Where both write to the same terminal, the test waits for a byte that says it has been shown.
``{"warnings": [...]}``, ``{"coverage": "..."}``, ``{"junitxml": {...}}``, ``{"session": {...}}``
    What else has to outlive the container.
``{"output": [["stdout", "..."]]}``
    What was captured in memory, by a test that ends its interpreter.
``{"exit": ...}``, ``{"interrupt": true}``, ``{"failed": "..."}``
    ``pytest.exit()`` or a KeyboardInterrupt, the end of the whole run; or an error in a hook.
``{"done": true}``
    There is nothing more to come.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from minidocker._errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from minidocker._functions.container import Ended

__all__ = [
    "decode",
    "encode",
    "how_it_ended",
    "join_sections",
    "marked",
    "packed_warnings",
    "replay_warnings",
    "report_failure",
    "shares_terminal",
    "xml_additions",
    "xml_apply",
]


def marked(item: pytest.Item, name: str) -> dict[str, Any]:
    """The keywords of an item's markers of that name; the closest marker wins, one by one.

    Raises:
        SpecError: a marker has positional arguments.
    """
    options: dict[str, Any] = {}
    for marker in item.iter_markers(name):
        if marker.args:
            reason = f"@pytest.mark.{name} takes keywords only: write option=value"
            raise SpecError(reason, option=name, value=marker.args[0])
        options = {**marker.kwargs, **options}
    return options


# --- reports -------------------------------------------------------------------------------------


def encode(config: pytest.Config, report: pytest.TestReport) -> Any:
    """A report as data, from which `decode` makes it again."""
    return config.hook.pytest_report_to_serializable(config=config, report=report)


def decode(config: pytest.Config, data: dict[str, Any]) -> pytest.TestReport:
    """The report again. JSON has no tuples, and pytest and its plugins ask for them."""
    for name in ("sections", "user_properties"):
        data[name] = [tuple(pair) for pair in data.get(name, ())]
    for name in ("location", "longrepr"):
        if isinstance(data.get(name), list):
            data[name] = tuple(data[name])
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(
        config=config, data=data
    )
    if isinstance(context := data.get("_subtest.context"), dict):
        # pytest made reprs of these inside, and has just made reprs of the reprs.
        object.__setattr__(report.context, "kwargs", context["kwargs"])
    return report


def shares_terminal(config: pytest.Config) -> bool:
    """Whether what is written inside is seen at once, so that reports have to be, too."""
    shown = config.getoption("setupshow", False)
    return bool(shown) or config.getoption("capture", "no") in ("no", "tee-sys")


def join_sections(report: pytest.TestReport, more: pytest.TestReport) -> None:
    """Add what another report of the same phase has captured, as if it had been one."""
    for title, text in more.sections:
        for number, (known, before) in enumerate(report.sections):
            if known == title:
                gap = "" if before.endswith("\n") else "\n"
                report.sections[number] = (title, f"{before}{gap}{text}")
                break
        else:
            report.sections.append((title, text))


def report_failure(
    item: pytest.Item, phase: Any, message: str, sections: Iterable[tuple[str, str]]
) -> pytest.TestReport:
    """The report of a test that could not make one itself: it crashed, or its time was up.

    Args:
        item: the test.
        phase: ``"setup"``, ``"call"`` or ``"teardown"``.
        message: what happened.
        sections: what it had written: title and text.
    """
    # A crash of a test that is expected to fail is the failure that was expected. That it is was
    # found out inside, where the test's setup began.
    skipping: Any = sys.modules.get("_pytest.skipping")
    if skipping is not None and not item.config.getoption("runxfail", False):
        item.stash[skipping.xfailed_key] = skipping.evaluate_xfail_marks(item)

    def fail() -> None:
        pytest.fail(message, pytrace=False)

    call = pytest.CallInfo.from_call(fail, when=phase)
    report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    report.sections.extend(sections)
    return report


def how_it_ended(ended: Ended, phase: str | None) -> str:
    """The message for a test whose process ended before it had given its reports."""
    where = "after its teardown" if phase is None else f"during its {phase}"
    code = ended.returncode
    if code is None:
        return f"the test's process ended {where}, and nobody can tell how"
    if code >= 0:
        return f"the test ended its interpreter {where}, with exit status {code}"
    name = f"signal {-code}"
    with contextlib.suppress(ValueError):
        name = f"{signal.Signals(-code).name} ({signal.strsignal(-code)})"
    hints = {
        signal.SIGKILL: ": somebody sent it, or the kernel did for want of memory",
        signal.SIGSYS: ": it made a system call that a seccomp filter forbids",
        signal.SIGXCPU: ": it exceeded RLIMIT_CPU, see getrlimit(2)",
        signal.SIGXFSZ: ": it exceeded RLIMIT_FSIZE, see getrlimit(2)",
    }
    return f"the test crashed {where}: killed by {name}{hints.get(-code, '')}"  # type: ignore[call-overload]


# --- warnings ------------------------------------------------------------------------------------


def packed_warnings(caught: list[warnings.WarningMessage]) -> list[dict[str, Any]]:
    """What was recorded, as data."""
    return [
        {
            "message": str(warning.message),
            "category": [warning.category.__module__, warning.category.__qualname__],
            "filename": warning.filename,
            "lineno": warning.lineno,
        }
        for warning in caught
    ]


def replay_warnings(packed: list[dict[str, Any]]) -> None:
    """Give them to whoever records warnings now: filters have been applied already, inside."""
    for warning in packed:
        category = _category(*warning["category"])
        message: Warning | str = warning["message"]
        # One that wants other arguments stays text, which is all that is shown.
        with contextlib.suppress(TypeError):
            message = category(warning["message"])
        warnings.showwarning(message, category, warning["filename"], warning["lineno"])


def _category(module: str, name: str) -> type[Warning]:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type) and issubclass(found, Warning):
        return found
    return UserWarning


# --- JUnit XML -----------------------------------------------------------------------------------


def _xml(config: pytest.Config) -> Any:
    module: Any = sys.modules.get("_pytest.junitxml")
    return None if module is None else config.stash.get(module.xml_key, None)


def xml_additions(item: pytest.Item) -> Callable[[], dict[str, Any] | None]:
    """Return what tells, later, which entries have been made since for the JUnit file.

    Those of ``record_property`` travel with the reports; these are the ones of
    ``record_testsuite_property`` and ``record_xml_attribute``.
    """
    xml = _xml(item.config)
    if xml is None:
        return lambda: None
    known = len(xml.global_properties)

    def additions() -> dict[str, Any] | None:
        reporter = xml.node_reporters.get((item.nodeid, None))
        attributes = {} if reporter is None else reporter.attrs
        properties = xml.global_properties[known:]
        if not properties and not attributes:
            return None
        return {"properties": properties, "attributes": attributes}

    return additions


def xml_apply(item: pytest.Item, additions: dict[str, Any]) -> None:
    """Make the entries outside."""
    xml = _xml(item.config)
    if xml is None:
        return
    xml.global_properties.extend(tuple(pair) for pair in additions["properties"])
    if additions["attributes"]:
        xml.node_reporter(item.nodeid).attrs.update(additions["attributes"])
