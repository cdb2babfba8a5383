"""The messages from a test in a container to the pytest outside.

Both processes run one program, but the test inside may be broken or untrusted. Therefore it sends
JSON, one message a line; nothing is unpickled or called:

``{"report": ..., "phase": "setup"}``
    A report, as ``pytest_report_to_serializable`` makes it. ``phase`` is the phase that has ended;
    it is missing from a report within a phase, such as that of a subtest. If both processes write
    to the same terminal, the test waits for a byte that confirms that the report was shown.
``{"warnings": [...]}``, ``{"coverage": {...}}``, ``{"junitxml": {...}}``, ``{"session": {...}}``
    Other results of the test.
``{"output": [["stdout", "..."]]}``
    The output captured in memory, of a test that ends its interpreter.
``{"exit": ...}``, ``{"interrupt": true}``, ``{"failed": "..."}``
    ``pytest.exit()`` or a KeyboardInterrupt, which end the whole run; or an error in a hook.
``{"done": true}``
    The end of the messages.
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

    from minidocker._functions.function_container import Ended

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
    """Return the keywords of an item's markers of that name; the closest marker wins for each.

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
    """Return a report as data for `decode`."""
    return config.hook.pytest_report_to_serializable(config=config, report=report)


def decode(config: pytest.Config, data: dict[str, Any]) -> pytest.TestReport:
    """Return the report from its data, with the tuples that JSON made lists."""
    for name in ("sections", "user_properties"):
        data[name] = [tuple(pair) for pair in data.get(name, ())]
    for name in ("location", "longrepr"):
        if isinstance(data.get(name), list):
            data[name] = tuple(data[name])
    report: pytest.TestReport = config.hook.pytest_report_from_serializable(
        config=config, data=data
    )
    if isinstance(context := data.get("_subtest.context"), dict):
        # Pytest made reprs of these inside, and has just made reprs of the reprs.
        object.__setattr__(report.context, "kwargs", context["kwargs"])
    return report


def shares_terminal(config: pytest.Config) -> bool:
    """Return whether the test's output, and so its reports too, must be shown at once."""
    shown = config.getoption("setupshow", False)
    return bool(shown) or config.getoption("capture", "no") in ("no", "tee-sys")


def join_sections(report: pytest.TestReport, more: pytest.TestReport) -> None:
    """Append the captured sections of another report of the same phase."""
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
    """Return a report for a test that could not make one: it crashed, or its time was up.

    Args:
        item: the test.
        phase: ``"setup"``, ``"call"`` or ``"teardown"``.
        message: the cause of the failure.
        sections: the title and text of each section of captured output.
    """
    # A crash counts as the failure that xfail expects. Only the copy evaluated the xfail marks, so
    # evaluate them here too.
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
    """Return the message for a test whose process ended before it sent all reports."""
    where = "after its teardown" if phase is None else f"during its {phase}"
    code = ended.returncode
    if code is None:
        return f"the test's process ended {where}, and its exit status is unknown"
    if code >= 0:
        return f"the test ended its interpreter {where}, with exit status {code}"
    name = f"signal {-code}"
    with contextlib.suppress(ValueError):
        name = f"{signal.Signals(-code).name} ({signal.strsignal(-code)})"
    hints = {
        signal.SIGKILL: ": another process sent it, or the kernel did because memory ran out",
        signal.SIGSYS: ": it made a system call that a seccomp filter forbids",
        signal.SIGXCPU: ": it exceeded RLIMIT_CPU, see getrlimit(2)",
        signal.SIGXFSZ: ": it exceeded RLIMIT_FSIZE, see getrlimit(2)",
    }
    return f"the test crashed {where}: killed by {name}{hints.get(-code, '')}"  # type: ignore[call-overload]


# --- warnings ------------------------------------------------------------------------------------


def packed_warnings(caught: list[warnings.WarningMessage]) -> list[dict[str, Any]]:
    """Return recorded warnings as data for `replay_warnings`."""
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
    """Show the warnings of a test here, without filters, which the copy has already applied."""
    for warning in packed:
        category = _category(*warning["category"])
        message: Warning | str = warning["message"]
        # A category with another signature stays text, and only the text is shown.
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
    """Return a function that returns the entries added for the JUnit file since this call.

    They are those of ``record_testsuite_property`` and ``record_xml_attribute``; the reports
    contain those of ``record_property``.
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
    """Add a test's entries to the JUnit file of this process."""
    xml = _xml(item.config)
    if xml is None:
        return
    xml.global_properties.extend(tuple(pair) for pair in additions["properties"])
    if additions["attributes"]:
        xml.node_reporter(item.nodeid).attrs.update(additions["attributes"])
