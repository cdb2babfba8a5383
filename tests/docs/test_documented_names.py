"""Every option that the documentation names exists."""

import inspect
import re

import pytest

import minidocker
from minidocker import aio, linux, pytest_plugin
from minidocker._functions.options import CALL_OPTIONS
from minidocker._jupyter import magics
from minidocker._pytest import containers
from minidocker._run.keywords import RunOptions
from minidocker._spec.options import SUBPROCESS_KEYWORDS
from minidocker._spec.spec import FIELDS
from minidocker.cli.options import COMMANDS
from support.documentation import PAGES, name_of, prose

# Generated pages, and one that only lists measurements.
LEFT_OUT = ("docs/benchmarks.md",)
KEYWORD = re.compile(r"(?<![\w./-])([a-z_]+)=(?!=)")
FLAG = re.compile(r"(?<![\w-])(--[a-z][\w-]+)")
#: Keywords of other programs and libraries.
OTHERS_KEYWORDS = {
    "apparmor": "docker's --security-opt",
    "boottime": "a clock of --time-offset",
    "lsm": "a parameter of the kernel",
    "max_retries": "Ray",
    "nofile": "a resource limit of --ulimit",
    "num_cpus": "Ray",
    "pure": "Dask",
    "resources": "Dask",
    "systempaths": "docker's --security-opt",
    "unmask": "podman's --security-opt",
}
#: Programs whose command lines the pages show.
OTHERS = ("bwrap", "docker", "firejail", "git", "podman", "unshare")
#: Options of other programs that stand alone. `--name` stands for any option.
OTHERS_FLAGS = {
    "--bind": "bwrap",
    "--dev": "bwrap",
    "--disable-userns": "bwrap",
    "--name": "an example",
    "--privileged": "docker",
    "--proc": "bwrap",
    "--workspace": "cargo",
}


# On this page every option without the name is one of pytest or of another plugin.
PYTEST_PAGE, PYTEST_NAME = "docs/pytest.md", "--minidocker"


def pages():
    return [page for page in PAGES if name_of(page) not in LEFT_OUT]


def spans(page):
    """Return the code in the sentences and tables of a page."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def parameters_of(module):
    found = set()
    for name in getattr(module, "__all__", dir(module)):
        public = getattr(module, name)
        members = inspect.getmembers(public, callable) if inspect.isclass(public) else []
        for value in (public, *(value for key, value in members if not key.startswith("_"))):
            try:
                found |= inspect.signature(value).parameters.keys()
            except (TypeError, ValueError):
                continue  # a class or method of C without a signature
    return found


@pytest.fixture(scope="module")
def keywords():
    found = {*FIELDS, *SUBPROCESS_KEYWORDS, *CALL_OPTIONS, *RunOptions.__annotations__}
    return found.union(*map(parameters_of, (minidocker, aio, linux, containers)))


@pytest.fixture(scope="module")
def flags():
    found = {name for command in COMMANDS.values() for name in command.spellings()}
    for module in (pytest_plugin, magics):
        found |= set(FLAG.findall(inspect.getsource(module)))
    return found | {"--help", "--version"}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_each_option_that_a_page_names_exists(page, keywords, flags):
    named = [
        (span, KEYWORD.findall(span), FLAG.findall(span))
        for span in spans(page)
        if not span.startswith(OTHERS)
    ]
    unknown = [
        (word, span)
        for span, words, names in named
        for word in (*words, *names)
        if not (name_of(page) == PYTEST_PAGE and word.startswith("--") and PYTEST_NAME not in word)
        and word not in keywords | flags | OTHERS_KEYWORDS.keys() | OTHERS_FLAGS.keys()
    ]
    assert not unknown


def test_the_lists_of_others_are_in_use(keywords, flags):
    text = "\n".join(span for page in pages() for span in spans(page))
    unused_keywords = {*OTHERS_KEYWORDS} - (set(KEYWORD.findall(text)) - keywords)
    unused_flags = {*OTHERS_FLAGS} - (set(FLAG.findall(text)) - flags)
    assert (unused_keywords, unused_flags) == (set(), set())
