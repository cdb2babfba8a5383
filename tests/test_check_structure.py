"""scripts/check_structure.py finds each kind of fault, and names the line."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts/check_structure.py"
_spec = importlib.util.spec_from_file_location("check_structure", SCRIPT)
check = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check)


@pytest.fixture
def sources(tmp_path):
    """Return a function that writes files and returns the faults that the check finds."""

    def findings(files):
        for layer in check.LAYERS:
            files.setdefault(f"core/src/{layer}.rs", "")
        modules = "".join(f"mod {layer};\n" for layer in check.LAYERS)
        files.setdefault("core/src/lib.rs", modules)
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return [found.removeprefix(f"{tmp_path}/") for found in check.findings(tmp_path)]

    return findings


def test_imports_of_lower_layers_are_allowed(sources):
    assert sources({"core/src/plan.rs": "use crate::{host::A, spec::{self, B}};\n"}) == []


@pytest.mark.parametrize(
    "line",
    [
        "use crate::plan;",
        "use crate::{error, plan::Plan};",
        "fn f() { crate::plan::make() }",
        "fn f() { use crate::plan::Plan as P; }",
    ],
)
def test_an_import_of_a_higher_layer_is_found_with_its_line(sources, line):
    (found,) = sources({"core/src/host.rs": f"//! Facts.\n\n{line}\n"})
    assert found.startswith("core/src/host.rs:3: host imports plan")


def test_a_name_in_a_comment_or_string_is_not_an_import(sources):
    text = '//! See [`crate::plan`].\nconst A: &str = "crate::plan::B";\n'
    assert sources({"core/src/host.rs": text}) == []


def test_an_import_of_a_re_exported_name_counts_for_the_defining_module(sources):
    files = {
        "core/src/plan.rs": "mod a;\nmod b;\npub use a::A;\n",
        "core/src/plan/a.rs": "use super::b::B;\n",
        "core/src/plan/b.rs": "use super::A;\n",
    }
    found = sources(files)
    assert [line.split(": ")[0] for line in found] == [
        "core/src/plan/a.rs:1",
        "core/src/plan/b.rs:1",
    ]


def test_a_module_and_its_submodule_may_import_each_other(sources):
    files = {
        "core/src/plan.rs": "mod a;\nuse a::A;\npub struct Plan;\n",
        "core/src/plan/a.rs": "use super::Plan;\npub struct A;\n",
    }
    assert sources(files) == []


def test_a_module_without_a_layer_is_found(sources):
    modules = "".join(f"mod {layer};\n" for layer in check.LAYERS)
    (found,) = sources({"core/src/lib.rs": modules + "mod more;\n", "core/src/more.rs": ""})
    assert "the module more" in found


def test_a_type_name_must_be_unique_except_for_associated_types(sources):
    files = {
        "core/src/plan.rs": "impl Iterator for A {\n    type Item = u8;\n}\nstruct Made;\n",
        "core/src/spec.rs": "impl Iterator for B {\n    type Item = u8;\n}\n\nenum Made {}\n",
    }
    (found,) = sources(files)
    assert found.startswith("core/src/spec.rs:5: the type Made is defined at ")


@pytest.mark.parametrize(
    "back",
    [
        "from minidocker import a",
        "from minidocker.a import A",
        "def f():\n    import minidocker.a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import A",
        "from minidocker import A",
    ],
)
def test_python_modules_in_a_circle_are_found(sources, back):
    files = {
        "python/minidocker/__init__.py": "from minidocker.a import A\n",
        "python/minidocker/a.py": "from minidocker.b import B\nclass A: ...\n",
        "python/minidocker/b.py": f"{back}\nclass B: ...\n",
    }
    found = sources(files)
    assert [line.split(":")[0] for line in found] == [
        "python/minidocker/a.py",
        "python/minidocker/b.py",
    ]


def test_python_folders_in_a_circle_are_found_without_a_circle_of_modules(sources):
    files = {
        "python/minidocker/up/a.py": "from minidocker.down.b import B\n",
        "python/minidocker/up/c.py": "class C: ...\n",
        "python/minidocker/down/b.py": "class B: ...\n",
        "python/minidocker/down/d.py": "def f():\n    from minidocker.up.c import C\n",
    }
    assert [line.split(": ")[0] for line in sources(files)] == [
        "python/minidocker/down/d.py:2",
        "python/minidocker/up/a.py:1",
    ]


def test_a_class_name_must_be_unique_except_inside_another_class(sources):
    files = {
        "python/minidocker/a.py": "class Row: ...\n\n\nclass A:\n    class Inner: ...\n",
        "python/minidocker/b.py": "class B:\n    class Inner: ...\n\n\nclass Row: ...\n",
    }
    (found,) = sources(files)
    assert found.startswith("python/minidocker/b.py:5: the class Row is defined at ")


@pytest.mark.parametrize("root", check.ROOTS)
def test_every_crate_root_is_read(sources, root):
    layers = "".join(f"mod {layer};\n" for layer in check.LAYERS)
    directory = root.rpartition("/")[0]
    files = {
        root: layers if root.startswith("core") else "mod step;\n",
        f"{directory}/step.rs": "mod a;\nmod b;\n",
        f"{directory}/step/a.rs": "use super::b::B;\nstruct A;\n",
        f"{directory}/step/b.rs": "use super::a::A;\nstruct B;\n",
    }
    assert [line.split(": ")[0] for line in sources(files)] == [
        f"{directory}/step/a.rs:1",
        f"{directory}/step/b.rs:1",
    ]


def test_a_long_file_is_found(sources):
    (found,) = sources({"python/minidocker/a.py": "A = 1\n" * 501})
    assert found == "python/minidocker/a.py:501: 501 lines, and the most is 500"
