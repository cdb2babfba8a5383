"""All lists of the options agree: dataclass, keywords, stub, command line, documentation."""

import ast
import dataclasses
import inspect
import re
import shlex
from pathlib import Path
from typing import ForwardRef

import pytest

import minidocker
from minidocker import Container, NamespaceOptions, Spec, aio, linux
from minidocker._doctor import checks
from minidocker._functions.options import CALL_OPTIONS, IsolatedOptions
from minidocker._inspect import view
from minidocker._inspect.namespaces import ISOLATES
from minidocker._run import keywords
from minidocker._run.process import Popen
from minidocker._spec import confine
from minidocker._spec.names import KINDS, PROFILES
from minidocker._spec.options import SUBPROCESS_KEYWORDS
from minidocker._spec.typed import CommandOptions, SpecOptions
from minidocker.cli import request
from minidocker.cli.options import COMMANDS
from minidocker.cli.parser import parse
from support.places import REPOSITORY

FIELDS = {field.name: field.type for field in dataclasses.fields(Spec)}
STUB = REPOSITORY / "python" / "minidocker" / "_core.pyi"
DOCS = [
    path for path in (REPOSITORY / "docs").glob("*.md") if path.stem not in ("cli", "benchmarks")
]
# The options that the core takes under other names, or after a conversion in Python.
IN_THE_CORE = {
    "devices": {"mounts"},
    "time_offsets": {"monotonic", "boottime"},
    "tmpfs": {"mounts"},
    "user": {"user"},
    **{option: {option} for option in confine.OPTIONS},
}


def as_written(annotations):
    return {
        name: hint.__forward_arg__ if isinstance(hint, ForwardRef) else hint
        for name, hint in annotations.items()
    }


def stub_parameters(*classes):
    tree = ast.parse(STUB.read_text())
    return {
        argument.arg
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name in classes
        for method in node.body
        if isinstance(method, ast.FunctionDef) and method.name == "__new__"
        for argument in method.args.kwonlyargs
    }


def test_the_keywords_are_the_fields_and_have_their_types():
    assert as_written(SpecOptions.__annotations__) == FIELDS


def test_each_field_is_described():
    described = re.findall(
        r"^ {4}(\w+): ", inspect.getdoc(Spec).partition("Raises:")[0], re.MULTILINE
    )
    assert described == list(FIELDS)


def test_the_core_takes_each_option():
    core = set().union(*(IN_THE_CORE.get(option, {option}) for option in FIELDS))
    assert core == stub_parameters("Spec", "Confine") - {"confine", "shown", "named"} | {"user"}
    assert "user" in stub_parameters("Command")


def test_the_command_line_has_each_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("settings.env").write_text("A=1\n")
    examples = [option.example for option in COMMANDS["run"].options]
    examples.append("minidocker run --security-opt seccomp=unconfined true")
    reached = set()
    for example in examples:
        words = shlex.split(example.rpartition(" | ")[2])
        reached |= request.keywords(parse(COMMANDS["run"], words[2:])).keys()
    assert reached & FIELDS.keys() == FIELDS.keys()


@pytest.mark.parametrize("option", FIELDS)
def test_the_documentation_names_each_option(option):
    pages = [path.stem for path in DOCS if re.search(rf"`{option}\b|\b{option}=", path.read_text())]
    assert pages, f"no page of docs/ names {option}"


def test_a_command_that_enters_a_container_takes_only_a_commands_options():
    expected = {*confine.OPTIONS, "user", "die_with_parent"}
    assert set(CommandOptions.__annotations__) == expected
    with Container() as box:
        for option in FIELDS.keys() - expected:
            with pytest.raises(minidocker.SpecError, match="belongs to the container"):
                box.run(["true"], **{option: None})


def test_the_keywords_of_commands_are_those_of_popen():
    kinds = (keywords.ProcessOptions, keywords.StreamOptions, keywords.Either)
    typed = set().union(*(kind.__annotations__ for kind in kinds))
    assert typed | {"user", "preexec_fn"} == set(SUBPROCESS_KEYWORDS)
    implementation = inspect.signature(Popen.__init__).parameters
    others = {"self", "args", "startupinfo", "creationflags", "spec", "options"}
    assert implementation.keys() - others == set(SUBPROCESS_KEYWORDS)


def test_the_keywords_of_isolated_are_those_of_a_call_and_of_a_container():
    assert IsolatedOptions.__annotations__.keys() == {*CALL_OPTIONS, *FIELDS}


@pytest.mark.parametrize("module", [minidocker, aio, linux])
def test_no_public_signature_has_a_private_parameter(module):
    for public in module.__all__:
        value = getattr(module, public)
        members = inspect.getmembers(value) if inspect.isclass(value) else []
        for name, found in [(public, value), *members]:
            is_python = inspect.isfunction(found) or inspect.ismethod(found)
            if is_python and (name == "__init__" or not name.startswith("_")):
                parameters = inspect.signature(found).parameters
                assert not [each for each in parameters if each.startswith("_")], found


def test_all_lists_of_the_kinds_of_namespace_agree():
    assert tuple(field.name for field in dataclasses.fields(NamespaceOptions)) == KINDS
    assert tuple(ISOLATES) == KINDS
    assert set(view._TITLES) == set(KINDS)
    assert {check.name for check in checks.CHECKS} >= set(KINDS)
    for kind in KINDS:
        only = getattr(NamespaceOptions.none(), f"with_{kind}")()
        assert tuple(only) == (kind,)
        assert kind not in getattr(NamespaceOptions(**{kind: True}), f"without_{kind}")()
        assert only.flags in linux.CloneFlags


def test_the_core_has_the_same_profiles():
    for profile in PROFILES:
        assert Spec(profile=profile).core() is not None
    with pytest.raises(minidocker.SpecError) as raised:
        Spec(profile="unknown").core()
    assert str(raised.value).endswith(f"It is one of {', '.join(PROFILES)}")


@pytest.mark.parametrize(
    ("kind", "options", "shown"),
    [
        ("time", {"time_offsets": {"monotonic": 3}}, '{"monotonic": 3}'),
        ("time", {"time_offsets": {"monotonic": -0.5, "boottime": 1.25}},
         '{"monotonic": -0.5, "boottime": 1.25}'),
        ("mount", {"rootfs": "/usr"}, '"/usr"'),
        ("mount", {"read_only": True}, "True"),
        ("mount", {"overlay": True}, "True"),
        ("mount", {"overlay": "/usr"}, '"/usr"'),
        ("mount", {"tmpfs": ["/mnt"]}, "/mnt"),
    ],
)  # fmt: skip
def test_the_error_for_a_shared_namespace_shows_the_value(kind, options, shown):
    without = NamespaceOptions.all()
    without = without.without_time() if kind == "time" else without.without_mount()
    with pytest.raises(minidocker.SpecError, match=r"shared|new") as caught:
        minidocker.run(["true"], namespaces=without, **options)
    assert shown in str(caught.value)
    assert "…" not in str(caught.value)


def test_a_plan_shows_every_mode_in_octal():
    plan = minidocker.explain(["true"], hostname="lab", tmpfs=["/mnt"])
    calls = [line.call for line in plan if "O_CREAT" in line.call]
    assert calls
    assert all(call.endswith(" 0644)") for call in calls), calls
