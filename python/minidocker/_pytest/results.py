"""The messages from a test in a container to the pytest outside.

Both processes run one program, but the test inside may be broken or hostile. Therefore it sends
JSON, one message a line. Nothing is unpickled or called, and `received` checks every message:

``{"phase": "setup", "report": {...}, "raised": [...], ...}``
    The end of a phase: its report, as ``pytest_report_to_serializable`` makes it, and the
    exception that ended the phase. Optional entries have the other results of the phase.
``{"subtest": {...}}``
    A report within a phase. If both processes write to the same terminal, the test waits for a byte
    that confirms that the report was shown.
``{"output": [["stdout", "..."]]}``
    The output captured in memory, of a test that ends its interpreter.
``{"exit": [...]}``, ``{"interrupt": true}``, ``{"failed": "..."}``
    ``pytest.exit()`` or a KeyboardInterrupt, which end the whole run; or an error in a hook.

The pytest outside sends one byte to start a phase: the first letter of its name.
"""

from __future__ import annotations

import contextlib
import linecache
import re
import signal
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from minidocker._errors import SpecError
from minidocker._functions import strict_json
from minidocker._pytest.shapes import PLAIN, Malformed, OneOf, Optional, check, harmless, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker._functions.function_container import Ended

__all__ = [
    "apply_junitxml",
    "decode",
    "encode",
    "how_it_ended",
    "junitxml_additions",
    "marked",
    "packed_warnings",
    "received",
    "replay_warnings",
    "shares_terminal",
    "test_key",
    "warn",
]

LARGEST_MESSAGE = 1 << 25
"""The number of bytes that a message may have."""
CLOSED = 120
"""The exit status of a test that has closed or replaced the descriptor of its channel."""
MOST_OUTPUT = 1 << 21
"""The number of characters of captured output that a report may have."""


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


# --- the shapes of messages ----------------------------------------------------------------------

_PLACE = {"path": str, "lineno": int, "message": str}
_ENTRY = {
    "lines": [str],
    "reprfuncargs": Optional(OneOf(None, {"args": [(str, str)]})),
    "reprlocals": Optional(OneOf(None, {"lines": [str]})),
    "reprfileloc": Optional(OneOf(None, _PLACE)),
    "style": Optional(str),
}
_TRACEBACK = {
    "reprentries": [{"type": OneOf("ReprEntry", "ReprEntryNative"), "data": _ENTRY}],
    "extraline": OneOf(None, str),
    "style": str,
}
_FAILURE = {
    "reprcrash": OneOf(None, _PLACE),
    "reprtraceback": _TRACEBACK,
    "sections": [(str, str, str)],
    "chain": OneOf(None, [(_TRACEBACK, OneOf(None, _PLACE), OneOf(None, str))]),
}
_REPORT = {
    "nodeid": str,
    "when": str,
    "outcome": OneOf("passed", "failed", "skipped"),
    "longrepr": OneOf(None, str, (str, int, str), _FAILURE),
    "sections": [(str, str)],
    "user_properties": [(OneOf(str, int, float), PLAIN)],
    "keywords": dict,
    "wasxfail": Optional(str),
}
_SUBTEST = {"msg": OneOf(None, str), "kwargs": dict}
_WARNING = {"message": str, "category": (str, str), "filename": str, "lineno": int, "line": str}
_PHASE = {
    "phase": str,
    "report": dict,
    "raised": OneOf(None, (str, str, str)),
    "warnings": Optional([_WARNING]),
    "plugins": Optional(dict),
    "junitxml": Optional({"properties": [(str, str)], "attributes": dict}),
    "session": Optional(
        {
            "shouldfail": Optional(OneOf(bool, str)),
            "shouldstop": Optional(OneOf(bool, str)),
        }
    ),
}
_MESSAGE = OneOf(
    _PHASE,
    {"subtest": dict},
    {"output": [(str, str)]},
    {"exit": (str, OneOf(None, int))},
    {"interrupt": bool},
    {"failed": str},
)


def received(line: bytes) -> dict[str, Any]:
    """Return the message of a line.

    Raises:
        Malformed: the line is no message.
    """
    try:
        message = strict_json.loads(line, limit=LARGEST_MESSAGE)
    except (ValueError, RecursionError):
        raise Malformed from None
    check(message, _MESSAGE)
    # Most messages have no escaped character, and ASCII text without one has no harmful character.
    return harmless(message) if b"\\" in line or b"\x7f" in line else message  # type: ignore[no-any-return]


# --- reports -------------------------------------------------------------------------------------


def encode(config: pytest.Config, report: pytest.TestReport) -> Any:
    """Return a report as data for `decode`."""
    data = config.hook.pytest_report_to_serializable(config=config, report=report)
    sections = data["sections"]
    data["sections"] = [
        (str(title), _cut(str(text), MOST_OUTPUT // len(sections))) for title, text in sections
    ]
    data["user_properties"] = [(name, plain(value)) for name, value in data["user_properties"]]
    return data


def _cut(text: str, most: int) -> str:
    """Return a text without its middle, if it is too long."""
    if len(text) <= most:
        return text
    half = most // 2
    return (
        f"{text[:half]}\n[... {len(text) - 2 * half} characters are left out ...]\n{text[-half:]}"
    )


# Extra attributes of a report that other code uses, with other meanings than a plugin inside could
# have for them.
_RESERVED = {"node", "worker_id", "item_index", "testrun_uid", "result", "context"}
# Attributes that plugins add to a report and that are no plain values.
_KNOWN = {
    # Of pytest-html, which writes a file with that extension for some of them.
    "extras": [
        {
            "name": OneOf(None, str),
            "format_type": str,
            "content": PLAIN,
            "mime_type": OneOf(None, str),
            "extension": OneOf(None, str),
        }
    ],
}


def decode(
    item: pytest.Item, data: dict[str, Any], when: str, *, subtest: bool = False
) -> pytest.TestReport:
    """Return the report from its data.

    Args:
        item: the test, which must be that of the report.
        data: the data, with the shape of a dictionary.
        when: the phase that the report must have.
        subtest: whether it must be the report of a subtest, or of a test.

    Raises:
        Malformed: the data is no such report.
    """
    kinds = (data.pop("$report_type", None), data.pop("_report_type", None))
    context = data.pop("_subtest.context", None)
    for name in ("location", "duration", "start", "stop"):
        # These are facts about the test that the pytest outside knows.
        data.pop(name, None)
    known = {name: data.pop(name) for name in list(data) if name in _REPORT}
    check(known, _REPORT)
    if (known["nodeid"], known["when"]) != (item.nodeid, when):
        raise Malformed
    longrepr = known["longrepr"]
    if known["outcome"] == "failed" and longrepr is None:
        raise Malformed
    if known["outcome"] == "skipped" and "wasxfail" not in known and not isinstance(longrepr, list):
        raise Malformed
    if isinstance(longrepr, list):
        known["longrepr"] = tuple(longrepr)
    known["sections"] = [tuple(pair) for pair in known["sections"]]
    # The writer of the JUnit file does not escape names.
    known["user_properties"] = [
        (str(name).replace("\0", "\\x00").replace("\x1b", "\\x1b"), value)
        for name, value in known["user_properties"]
    ]
    known["keywords"] = dict.fromkeys(known["keywords"], 1)
    made = {"location": item.location, **_extras(data), **known}
    if subtest:
        if kinds[1] != "SubTestReport":
            raise Malformed
        check(context, _SUBTEST)
        made |= {"_report_type": "SubTestReport", "_subtest.context": context}
    elif kinds != ("TestReport", None):
        raise Malformed
    else:
        made["$report_type"] = "TestReport"
    try:
        report: Any = item.config.hook.pytest_report_from_serializable(
            config=item.config, data=made
        )
        if report is not None and report.failed:
            # Pytest checks the order of the lines when it shows them.
            str(report.longrepr)
    except (AssertionError, KeyError, TypeError, ValueError):
        raise Malformed from None
    if report is None:
        raise Malformed
    builtin: Any = sys.modules.get("_pytest.subtests")
    if subtest and builtin is not None and isinstance(report, builtin.SubtestReport):
        # Pytest made reprs of these inside, and has just made reprs of the reprs.
        kwargs = {name: str(value) for name, value in context["kwargs"].items()}
        object.__setattr__(report.context, "kwargs", kwargs)
    return report  # type: ignore[no-any-return]


def _extras(data: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that plugins inside added: those that cannot disturb a plugin."""
    kept = {}
    for name, value in data.items():
        if name in _KNOWN:
            check(value, _KNOWN[name])
            if not all(_SUFFIX.fullmatch(extra["extension"] or "") for extra in value):
                raise Malformed("pytest-html: the extension of an extra is not a suffix")
        elif (
            not isinstance(value, str | int | float | None)
            or not _ATTRIBUTE.fullmatch(name)
            or name in _RESERVED
            or hasattr(pytest.TestReport, name)
        ):
            continue
        kept[name] = value
    return kept


_SUFFIX = re.compile("[A-Za-z0-9]{0,10}")
_ATTRIBUTE = re.compile("[A-Za-z][A-Za-z0-9_]*|_hypothesis_[a-z_]+")


def test_key(named: Any) -> Any:
    """Return the key by which pytest stores data of a test.

    Args:
        named: the test, or a report of it.
    """
    # Since pytest 9.2 the key is an object with the parts of the name.
    return named.id if "_pytest.nodeid" in sys.modules else named.nodeid


def shares_terminal(config: pytest.Config) -> bool:
    """Return whether the test's output, and so its reports too, must be shown at once."""
    shown = config.getoption("setupshow", False)
    return bool(shown) or config.getoption("capture", "no") in ("no", "tee-sys")


def how_it_ended(ended: Ended, phase: str | None) -> str:
    """Return the message for a test whose process ended before it sent all reports."""
    where = "after its teardown" if phase is None else f"during its {phase}"
    code = ended.returncode
    if code is None:
        return f"the test's process ended {where}, and its exit status is unknown"
    if code == CLOSED:
        return (
            f"the test closed or replaced the descriptor of its reports {where} (exit status "
            f"{CLOSED})"
        )
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
            # The pytest outside opens no file of which it has only the name.
            "line": warning.line or linecache.getline(warning.filename, warning.lineno).strip(),
        }
        for warning in caught
    ]


def replay_warnings(packed: list[dict[str, Any]]) -> None:
    """Show the warnings of a test here, without filters, which the copy has already applied."""
    for warning in packed:
        module, name = warning["category"]
        category = find_class(module, name, Warning) or UserWarning
        message: Warning | str = warning["message"]
        try:
            made = category(warning["message"])
            if str(made) == warning["message"]:
                message = made
        except Exception:  # noqa: BLE001 - a category's own methods may raise anything
            # With another signature, the warning stays text, and only the text is shown.
            pass
        warnings.showwarning(
            message, category, warning["filename"], warning["lineno"], line=warning["line"]
        )


def warn(item: pytest.Item, message: str) -> None:
    """Show a warning about a test, without filters: one of them could make it an exception."""
    warning = {
        "message": message,
        "category": ["pytest", "PytestWarning"],
        "filename": str(item.path),
        "lineno": (item.location[1] or 0) + 1,
        "line": "",
    }
    replay_warnings([warning])


def find_class(module: str, qualname: str, base: type[Any]) -> type[Any] | None:
    """Return a class of that base by its names, or None. Import nothing, and call no code."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        try:
            found = vars(found).get(part)
        except TypeError:
            return None
    return found if isinstance(found, type) and issubclass(found, base) else None


# --- JUnit XML -----------------------------------------------------------------------------------


def _xml(config: pytest.Config) -> Any:
    module: Any = sys.modules.get("_pytest.junitxml")
    return None if module is None else config.stash.get(module.xml_key, None)


def junitxml_additions(item: pytest.Item) -> Callable[[], dict[str, Any] | None]:
    """Return a function that returns the entries added for the JUnit file since its last call.

    They are those of ``record_testsuite_property`` and ``record_xml_attribute``; the reports
    contain those of ``record_property``.
    """
    xml = _xml(item.config)
    if xml is None:
        return lambda: None
    known = len(xml.global_properties)

    def additions() -> dict[str, Any] | None:
        nonlocal known
        reporter = xml.node_reporters.get((test_key(item), None))
        attributes = {} if reporter is None else reporter.attrs
        properties = xml.global_properties[known:]
        known += len(properties)
        if not properties and not attributes:
            return None
        return {"properties": properties, "attributes": attributes}

    return additions


# A subset of what XML allows. The writer of the file escapes values, but not names.
_XML_NAME = re.compile("[A-Za-z_][A-Za-z0-9_.-]*")


def apply_junitxml(item: pytest.Item, additions: dict[str, Any]) -> None:
    """Add a test's entries to the JUnit file of this process."""
    xml = _xml(item.config)
    if xml is None:
        return
    xml.global_properties += [
        (_xml_text(name), _xml_text(value)) for name, value in additions["properties"]
    ]
    attributes = {
        name: _xml_text(value)
        for name, value in additions["attributes"].items()
        if _XML_NAME.fullmatch(name) and isinstance(value, str)
    }
    if attributes:
        xml.node_reporter(test_key(item)).attrs.update(attributes)


def _xml_text(text: str) -> str:
    module: Any = sys.modules["_pytest.junitxml"]
    return str(module.bin_xml_escape(text))
