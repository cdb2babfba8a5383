"""The benchmark of minidocker: `python benches/bench.py`, or `make bench`.

All cases run together, interleaved round by round in random order, so that a busy moment of the
machine affects all of them. The tables go to standard output and, without `--only`, `--quick` and
`--no-docs`, into docs/benchmarks.md (root and plain users have a section each) and
docs/benchmarks.svg. The benchmark needs cargo (or `--floor`) and a C compiler. The tables mark
tools that are not installed.

A plain user must be able to reach the interpreter and the built floor. If this user cannot write to
the checkout, measure with `--json FILE --no-docs`, and render with `--from FILE`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import cases
import report
from cases import (
    APART,
    ARGUMENT_FORK,
    ARGUMENT_SPAWN,
    BACK_TO_BACK,
    BWRAP,
    BWRAP_VIEW,
    CALL,
    CALLER_LARGE,
    CALLER_SMALL,
    CASES,
    FLOOR,
    FORK_AND_NAMESPACES,
    FORKED,
    GROUPS,
    LARGE,
    MARKED,
    MINIDOCKER,
    NAMESPACES,
    NAMESPACES_ON_THE_HOST,
    ONE_PROCESS,
    PYTHON,
    PYTHON_NUMPY,
    SMALL,
    SPAWN,
    SPAWN_NUMPY,
    START,
    START_PYTHON,
    TESTS,
    TWO_PROCESSES,
    UNTRUSTED,
    UNTRUSTED_ON_THE_HOST,
)
from measure import Samples, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "benchmarks.svg"

NOOP = """\
__attribute__((naked, noreturn)) void _start(void) {
#if defined(__x86_64__)
    __asm__("xor %edi, %edi; mov $231, %eax; syscall");
#elif defined(__aarch64__)
    __asm__("mov x0, #0; mov x8, #94; svc #0");
#else
#error "add exit_group for this architecture here"
#endif
}
"""

TEMPLATE = """\
# Benchmarks

Written by `make bench`. All cases are measured in one run, interleaved in random order.

![Time to run one command, by tool](benchmarks.svg)

{begin}
{end}
"""


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="" if text.startswith("round") else "\n", file=sys.stderr)
    elif not text.startswith("round"):
        print(text, file=sys.stderr)


def build_noop(directory: Path) -> Path:
    """Compile the static program that does nothing."""
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit("bench: no C compiler called cc; install gcc or clang")
    source, program = directory / "noop.c", directory / "noop"
    source.write_text(NOOP)
    options = ["-O2", "-static", "-nostdlib", "-Wl,--build-id=none", "-s"]
    subprocess.run([compiler, *options, "-o", program, source], check=True)
    return program


def build_floor() -> Path:
    """Build core/benches/floor.rs and return the program's path."""
    command = ["cargo", "bench", "--package", "minidocker-core", "--bench", "floor", "--no-run"]
    done = subprocess.run(
        [*command, "--message-format", "json"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == "floor" and message.get("executable"):
            return Path(message["executable"])
    sys.exit("bench: cargo built no program called floor")


def _version(command: str) -> str | None:
    if shutil.which(command) is None:
        return None
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    return f"{command} {found[0]}" if found else None


def machine() -> str:
    """Describe the machine without identifying its owner."""
    kernel = re.match(r"[\d.]+\d", platform.release())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / cases.GIB
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    huge = re.search(r"\[(\w+)\]", setting.read_text()) if setting.exists() else None
    facts = [
        f"Linux {kernel[0] if kernel else platform.release()} ({platform.machine()})",
        f"{len(os.sched_getaffinity(0))} cores",
        f"{memory:.0f} GiB",
        f"transparent huge pages: {huge[1] if huge else 'unknown'}",
        f"{platform.python_implementation()} {platform.python_version()}",
        *filter(None, map(_version, ("bwrap", "unshare", "runc", "nsjail", "hakoniwa"))),
    ]
    return ", ".join(facts) + "."


def _who() -> str:
    return "plain user" if os.geteuid() else "root"


def _markers(who: str) -> tuple[str, str]:
    name = who.replace(" ", "-")
    return f"<!-- bench {name} -->", f"<!-- /bench {name} -->"


def write_document(text: str, who: str) -> None:
    """Put `text` between the markers of `who`, and keep the rest of the document."""
    begin, end = _markers(who)
    section = f"{begin}\n{text}\n{end}"
    empty = TEMPLATE.format(begin=begin, end=end)
    document = DOCUMENT.read_text() if DOCUMENT.exists() else empty
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(document):
        document = pattern.sub(lambda _: section, document, count=1)
    else:
        document = f"{document.rstrip()}\n\n{section}\n"
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(document)


def _at_most(what: str, value: float | None, most: float) -> bool:
    if value is None:
        print(f"not measured: {what}")
        return False
    holds = value <= most
    print(f"{'holds' if holds else 'MISSED'}: {what} is {value:.3f}, at most {most}")
    return holds


def check(samples: Sequence[Samples]) -> bool:
    """Print whether each target holds, and return whether all do."""
    first = {group.id: group.variants[0].label for group in GROUPS}

    def find(name: str, group: str, variant: str = "") -> Samples | None:
        return report.find(samples, group, name, variant or first[group])

    small, large = (find(MINIDOCKER, "parent", variant.label) for variant in (SMALL, LARGE))
    holds = [_at_most("minidocker.run at 2 GiB / small", report.ratio(large, small), 1.15)]
    for rhythm in (BACK_TO_BACK, APART):
        ours, bare, peer = (
            find(name, "command", rhythm.label) for name in (MINIDOCKER, FLOOR, BWRAP)
        )
        own, other = (find(name, "root", rhythm.label) for name in (MINIDOCKER, BWRAP))
        for what, value, most in (
            ("minidocker.run / floor", report.ratio(ours, bare), 1.25),
            ("minidocker.run / bwrap", report.ratio(ours, peer), 0.25),
            ("a root of its own / bwrap", report.ratio(own, other), 0.25),
        ):
            holds.append(_at_most(f"{what}, {rhythm.label}", value, most))
    for strict, other, most in (
        (UNTRUSTED, NAMESPACES, 1.6),
        (UNTRUSTED_ON_THE_HOST, NAMESPACES_ON_THE_HOST, 1.6),
        (UNTRUSTED_ON_THE_HOST, BWRAP_VIEW, 0.5),
    ):
        value = report.ratio(find(strict, "profiles"), find(other, "profiles"))
        holds.append(_at_most(f"{strict} / {other}", value, most))
    for variant in (CALLER_SMALL, CALLER_LARGE):
        call, bare = (find(name, "function", variant.label) for name in (CALL, FORK_AND_NAMESPACES))
        what = f"minidocker.call / (fork and namespaces), {variant.label}"
        holds.append(_at_most(what, report.ratio(call, bare), 1.5))
    for name, other, most in ((SPAWN, PYTHON, 1 / 4), (SPAWN_NUMPY, PYTHON_NUMPY, 1 / 30)):
        value = report.ratio(find(name, "clean"), find(other, "clean"))
        holds.append(_at_most(f"{name} / {other}", value, most))
    value = report.ratio(*(find(name, "argument") for name in (ARGUMENT_SPAWN, ARGUMENT_FORK)))
    holds.append(_at_most(f"{ARGUMENT_SPAWN} / {ARGUMENT_FORK}", value, 10))
    value = report.ratio(find(START, "start"), find(START_PYTHON, "start"))
    holds.append(_at_most(f"{START} / {START_PYTHON}", value, 1.3))
    value = report.ratio(find(MARKED, "tests"), find(FORKED, "tests"))
    holds.append(_at_most(f"{MARKED} / {FORKED}", value, 1.5))
    marked, tests = (
        report.ratio(*(find(name, "scaling", each.label) for each in (TWO_PROCESSES, ONE_PROCESS)))
        for name in (MARKED, TESTS)
    )
    value = None if marked is None or tests is None else marked / tests
    holds.append(_at_most(f"-n 2 / 1 process: {MARKED} / {TESTS}", value, 1.1))
    return all(holds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    ids = [group.id for group in GROUPS]
    add("--only", metavar="GROUP", action="append", choices=ids, help=f"one of {', '.join(ids)}")
    add("--rounds", type=int, help="visits of each case (default: 60, quick: 6)")
    add("--quick", action="store_true", help="few rounds; leave docs/ as it is")
    add("--json", metavar="FILE", type=Path, help="also write every sample to FILE")
    add("--from", dest="source", metavar="FILE", type=Path, help="render FILE instead of measuring")
    add("--no-docs", action="store_true", help="leave docs/ as it is")
    add("--floor", metavar="PATH", type=Path, help="the built floor")
    add("--check", action="store_true", help="exit with status 1 unless every target holds")
    return parser.parse_args()


def main() -> None:
    options = _arguments()
    if options.source is not None:
        record = json.loads(options.source.read_text())
        samples = [Samples(**one) for one in record["samples"]]
    else:
        floor = options.floor or build_floor()
        chosen = [case for case in CASES if not options.only or case.group in options.only]
        rounds = options.rounds or (6 if options.quick else 60)
        with tempfile.TemporaryDirectory() as directory:
            noop = build_noop(Path(directory))
            samples = measure(chosen, rounds, floor.resolve(), noop, _say)
        record = {"machine": machine(), "who": _who(), "samples": [*map(asdict, samples)]}
        if sys.stderr.isatty():
            print(file=sys.stderr)
    if options.json is not None:
        options.json.write_text(json.dumps(record))
    text = f"## As {record['who']}\n\n" + report.markdown(samples, record["machine"])
    print(text)
    if not (options.no_docs or options.quick or options.only):
        write_document(text, record["who"])
        if record["who"] == "root":
            PLOT.write_text(report.plot(GROUPS[0], samples, MINIDOCKER))
    if options.check and not check(samples):
        sys.exit(1)


if __name__ == "__main__":
    main()
