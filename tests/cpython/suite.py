"""Run a test module of CPython in this interpreter, and report the outcome of each test.

    python suite.py REPORT [--suite MODULE] [--path DIRECTORY] [--popen MODULE:CLASS]
                           [--exec MODULE:FUNCTION] [--defaults JSON] [--only TEST ...]

MODULE is test.test_subprocess by default. FUNCTION replaces `asyncio.create_subprocess_exec`.

CLASS replaces `subprocess.Popen` before the test suite is imported, so `subprocess.run`, `call`,
`check_output` and `getoutput` use it too. Each test appends JSON objects to REPORT, one a line, so
the report of a run that did not finish shows where it stopped.

An interpreter without pytest, and without the other tests on its path, runs this file as a program.
"""

import argparse
import asyncio
import functools
import importlib
import json
import resource
import subprocess
import sys
import time
import traceback
import unittest
from typing import Any, TextIO


class Recorder(unittest.TestResult):
    """Writes each test's outcome to the report; for subtests, the worst one."""

    def __init__(self, suite: str, report: TextIO) -> None:
        super().__init__()
        self._suite = suite
        self._report = report
        self._began = 0.0
        self._outcome = ""
        self._detail = ""

    def _write(self, **row: object) -> None:
        print(json.dumps(row), file=self._report, flush=True)

    def _note(self, test: unittest.TestCase, outcome: str, detail: str) -> None:
        if test.id() != self._current:
            # An event outside a test: in setUpClass, tearDownModule and the like.
            self._write(test=self._name(test), outcome=outcome, detail=detail, seconds=0.0)
        elif self._outcome in ("", "skipped"):
            self._outcome, self._detail = outcome, detail

    def _name(self, test: unittest.TestCase) -> str:
        return test.id().removeprefix(f"{self._suite}.")

    _current = ""

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._current = test.id()
        self._outcome, self._detail = "", ""
        self._began = time.monotonic()
        self._write(started=self._name(test))

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self._write(
            test=self._name(test),
            outcome=self._outcome or "passed",
            detail=self._detail,
            seconds=round(time.monotonic() - self._began, 3),
        )
        self._current = ""

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self._note(test, "failed", _text(err))

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._note(test, "failed", _text(err))

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failed", f"{subtest}\n{_text(err)}")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._note(test, "expected failure", _text(err))

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._note(test, "unexpected success", "")


def _text(err: Any) -> str:
    return "".join(traceback.format_exception(*err))


def replace_popen(name: str, defaults: dict[str, Any]) -> None:
    """Make `subprocess.Popen` the class named `module:class`, with `defaults` for its keywords."""
    module, _, attribute = name.partition(":")
    replacement = getattr(importlib.import_module(module), attribute)
    if defaults:

        class Popen(replacement):  # type: ignore[misc, valid-type]
            def __init__(self, *args: Any, **keywords: Any) -> None:
                super().__init__(*args, **{**defaults, **keywords})

        replacement = Popen
    subprocess.Popen = replacement  # type: ignore[misc]


def replace_exec(name: str, defaults: dict[str, Any]) -> None:
    """Make `asyncio.create_subprocess_exec` the function named `module:function`."""
    module, _, attribute = name.partition(":")
    replacement = getattr(importlib.import_module(module), attribute)
    asyncio.create_subprocess_exec = functools.partial(replacement, **defaults)


def main() -> None:
    """Run the tests, and write their outcomes to the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("report")
    parser.add_argument("--suite", default="test.test_subprocess")
    parser.add_argument("--path")
    parser.add_argument("--popen")
    parser.add_argument("--exec")
    parser.add_argument("--defaults", type=json.loads, default={})
    parser.add_argument("--only", nargs="*", default=[])
    arguments = parser.parse_args()

    # Remove this file's directory: a test that imports by a short name must not find its modules.
    del sys.path[0]
    if arguments.path:
        sys.path.append(arguments.path)
    if arguments.popen:
        replace_popen(arguments.popen, arguments.defaults)
    if arguments.exec:
        replace_exec(arguments.exec, arguments.defaults)

    from test import support
    from test.support import os_helper

    # Run the tests of timeouts and leaked descriptors, but none that need much memory or a network.
    support.use_resources = ("cpu", "walltime")
    support.verbose = 0
    # Some tests fill the descriptor table, and skip if the limit is larger than usual.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, most))

    loader = unittest.defaultTestLoader
    if arguments.only:
        suite = loader.loadTestsFromNames([f"{arguments.suite}.{name}" for name in arguments.only])
    else:
        suite = loader.loadTestsFromName(arguments.suite)
    with open(arguments.report, "w", encoding="utf-8") as report, os_helper.temp_cwd():
        suite.run(Recorder(arguments.suite, report))
        print(json.dumps({"finished": True}), file=report)


if __name__ == "__main__":
    main()
