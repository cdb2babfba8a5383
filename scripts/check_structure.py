#!/usr/bin/env python3
"""Check the structure of the sources: layers, import circles, type names, the length of files.

    scripts/check_structure.py [DIRECTORY]

- A module of core imports only modules below it in LAYERS.
- Modules of a crate or of python/minidocker do not import each other in a circle, and neither do
  folders of them. An import inside a function or under TYPE_CHECKING counts. An import of a
  re-exported name counts as an import of the module that defines it. A module and its own
  submodules may import each other.
- A crate defines a type name once, and the Python package a class name.
- A source file has at most MOST_LINES lines.

Each finding begins with file:line. For Rust the check reads `use` declarations and paths that begin
with `crate`, `super` or `self`; it does not expand macros.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# The modules of core from top to bottom; CONTRIBUTING.md describes each.
LAYERS = (
    "command",
    "probe",
    "process",
    "launch",
    "watchdog",
    "plan",
    "clone",
    "caller",
    "host",
    "spec",
    "linux",
    "sys",
    "error",
    "step",
)
MOST_LINES = 500
ROOTS = ("core/src/lib.rs", "init/src/lib.rs", "init/src/main.rs", "pybind/src/lib.rs")
SOURCES = ("core", "init", "pybind", "python", "scripts", "tests", "benches", "examples")

Module = tuple[str, ...]


class Import(NamedTuple):
    """One module imports another."""

    source: Module
    target: Module
    where: str


# --- Rust ----------------------------------------------------------------------------------------

_COMMENT_OR_TEXT = re.compile(
    r'//[^\n]*|/\*.*?\*/|r(?P<hashes>#*)".*?"(?P=hashes)|"(?:\\.|[^"\\])*"'
    r"|'(?:\\[^']+|[^'\\])'",
    re.DOTALL,
)
_USE = re.compile(r"\buse\s+([^;]+);")
_PATH = re.compile(r"\b(?:crate|super|self)(?:\s*::\s*\w+)+")
_MOD = re.compile(r"\bmod\s+(\w+)\s*([;{])")
_TYPE = re.compile(r"\b(struct|enum|union|trait|type)\s+([A-Za-z]\w*)")
# Associated types, between these braces, are not names of the crate.
_IMPL = re.compile(
    r"^[ \t]*(?:pub(?:\([^)]*\))? )?(?:unsafe )?(?:impl|trait)\b[^;{]*\{", re.MULTILINE
)


def _blanks(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def _end_of_block(text: str, opening: int) -> int:
    depth = 0
    for index in range(opening, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return len(text)


def _steps(path: str) -> Module:
    return tuple(step.strip() for step in path.split("::") if step.strip())


def _leaves(tree: str, prefix: Module = ()) -> Iterator[tuple[str, Module]]:
    """Yield each name that a `use` tree imports, with its path."""
    head, brace, rest = tree.strip().partition("{")
    if not brace:
        path, _, alias = head.partition(" as ")
        steps = (*prefix, *_steps(path))
        if steps[-1] == "self":
            steps = steps[:-1]
        yield alias.strip() or steps[-1], steps
        return
    depth, begin, inner = 0, 0, rest.rstrip().removesuffix("}") + ","
    for index, character in enumerate(inner):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            if inner[begin:index].strip():
                yield from _leaves(inner[begin:index], (*prefix, *_steps(head)))
            begin = index + 1


class RustModule:
    """A module of a crate: a file, or a block in one."""

    def __init__(self, file: Path, text: str, first_line: int) -> None:
        self.file, self.text, self.first_line = file, text, first_line
        self.names: dict[str, Module] = {}
        self.paths: list[tuple[Module, str]] = []
        for use in _USE.finditer(text):
            for name, steps in _leaves(use[1]):
                self.names[name] = steps
                self.paths.append((steps, self.where(use.start())))
        rest = _USE.sub(lambda use: _blanks(use[0]), text)
        for path in _PATH.finditer(rest):
            self.paths.append((_steps(path[0]), self.where(path.start())))

    def where(self, offset: int) -> str:
        """Return file:line of an offset in the text."""
        return f"{self.file}:{self.first_line + self.text.count(chr(10), 0, offset)}"


def rust_modules(root: Path) -> dict[Module, RustModule]:
    """Return the modules of the crate whose root is the file `root`."""
    modules: dict[Module, RustModule] = {}

    def read(module: Module, file: Path, directory: Path) -> None:
        source = file.read_text()
        text = _COMMENT_OR_TEXT.sub(lambda match: _blanks(match[0]), source)
        split(module, file, directory, source, text, 1)

    def split(
        module: Module, file: Path, directory: Path, source: str, text: str, line: int
    ) -> None:
        for mod in reversed(list(_MOD.finditer(text))):
            inner, name = (*module, mod[1]), mod[1]
            if mod[2] == "{":
                end = _end_of_block(text, mod.end() - 1)
                block = text[mod.end() : end]
                block_line = line + text.count("\n", 0, mod.end())
                split(inner, file, directory / name, source, block, block_line)
                text = text[: mod.end()] + _blanks(block) + text[end:]
            elif given := re.search(rf'#\[path = "([^"]+)"\]\s*(?:pub\S* )?mod {name};', source):
                found = (file.parent / given[1]).resolve()
                read(inner, found, found.parent)
            else:
                flat = directory / f"{name}.rs"
                read(
                    inner, flat if flat.exists() else directory / name / "mod.rs", directory / name
                )
        modules[module] = RustModule(file, text, line)

    read((), root, root.parent)
    return modules


def rust_imports(modules: dict[Module, RustModule]) -> list[Import]:
    """Return the imports between the modules of a crate."""

    def defining(at: Module, steps: Module, seen: frozenset[tuple[Module, str]]) -> Module | None:
        """Return the module that defines the item at `steps`; None for an item of another crate."""
        if steps[0] == "crate":
            at, steps = (), steps[1:]
        elif steps[0] in {"super", "self"}:
            while steps and steps[0] in {"super", "self"}:
                at, steps = (at[:-1] if steps[0] == "super" else at), steps[1:]
        elif (*at, steps[0]) not in modules:
            return None
        for index, step in enumerate(steps):
            if (*at, step) in modules:
                at = (*at, step)
                continue
            again = modules[at].names.get(step)
            if again is None or (at, step) in seen:
                return at
            return defining(at, (*again, *steps[index + 1 :]), seen | {(at, step)}) or at
        return at

    found = []
    for source, module in modules.items():
        for steps, where in module.paths:
            target = defining(source, steps, frozenset())
            if target is not None:
                found.append(Import(source, target, where))
    return found


def unplaced_modules(modules: Iterable[Module], root: Path) -> Iterator[str]:
    """Yield the top modules of core that LAYERS lacks, and the names in LAYERS without a module."""
    tops = {module[0] for module in modules if module}
    for name in sorted(tops.symmetric_difference(LAYERS)):
        yield f"{root}:1: the module {name} and LAYERS of {Path(__file__).name} do not agree"


def upward_imports(imports: Iterable[Import]) -> Iterator[str]:
    """Yield the imports of core that break the order of LAYERS."""
    places = {name: place for place, name in enumerate(LAYERS)}
    for found in imports:
        # The crate's own module belongs to no layer.
        source, target = found.source[:1], found.target[:1]
        if source and target and places.get(target[0], 0) < places.get(source[0], 0):
            path = "::".join(found.target)
            yield f"{found.where}: {source[0]} imports {path}, which is above it"


def doubled_types(modules: dict[Module, RustModule]) -> Iterator[str]:
    """Yield the type names that a crate defines a second time."""
    places: dict[str, str] = {}
    for _, module in sorted(modules.items()):
        text = module.text
        blocks = [(at.end(), _end_of_block(text, at.end() - 1)) for at in _IMPL.finditer(text)]
        for found in _TYPE.finditer(text):
            inside = any(begin <= found.start() < end for begin, end in blocks)
            if found[1] == "type" and inside:
                continue
            where = module.where(found.start())
            first = places.setdefault(found[2], where)
            if first != where:
                yield f"{where}: the type {found[2]} is defined at {first} too"


# --- Python --------------------------------------------------------------------------------------


def python_imports(package: Path) -> list[Import]:
    """Return the imports between the modules of a package."""
    files: dict[Module, Path] = {}
    for file in sorted(package.rglob("*.py")):
        name = (package.name, *file.relative_to(package).with_suffix("").parts)
        files[name[:-1] if name[-1] == "__init__" else name] = file
    # The imports of each module: from which module, which name (None: the module itself), the line.
    wanted: dict[Module, list[tuple[Module, str | None, int]]] = {name: [] for name in files}
    names: dict[Module, dict[str, tuple[Module, str]]] = {name: {} for name in files}
    for module, file in files.items():
        for node in ast.walk(ast.parse(file.read_text(), str(file))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    wanted[module].append((tuple(alias.name.split(".")), None, node.lineno))
            elif isinstance(node, ast.ImportFrom):
                here = module if file.name == "__init__.py" else module[:-1]
                base = here[: len(here) - node.level + 1] if node.level else ()
                base += tuple(node.module.split(".")) if node.module else ()
                for alias in node.names:
                    wanted[module].append((base, alias.name, node.lineno))
                    names[module][alias.asname or alias.name] = (base, alias.name)

    def defining(base: Module, name: str | None) -> Module | None:
        if name is not None and (*base, name) in files:
            return (*base, name)
        if base not in files:
            return None
        again = names[base].get(name or "")
        return (defining(*again) if again is not None else None) or base

    return [
        Import(source, target, f"{files[source]}:{line}")
        for source, imports in wanted.items()
        for base, name, line in imports
        if (target := defining(base, name)) is not None
    ]


def doubled_classes(package: Path) -> Iterator[str]:
    """Yield the class names that the modules of a package define a second time."""
    places: dict[str, str] = {}
    for file in sorted(package.rglob("*.py")):
        for node in ast.parse(file.read_text(), str(file)).body:
            if isinstance(node, ast.ClassDef):
                where = f"{file}:{node.lineno}"
                first = places.setdefault(node.name, where)
                if first != where:
                    yield f"{where}: the class {node.name} is defined at {first} too"


# --- both ----------------------------------------------------------------------------------------

Graph = dict[Module, dict[Module, Import]]


def between_siblings(imports: Iterable[Import]) -> Graph:
    """Return the imports between modules of one parent; a submodule counts as its module."""
    graph: Graph = {}
    for found in imports:
        pairs = zip(found.source, found.target, strict=False)
        common = next((at for at, (one, other) in enumerate(pairs) if one != other), None)
        # A parent of the other is not a sibling.
        if common is not None:
            target = found.target[: common + 1]
            graph.setdefault(found.source[: common + 1], {}).setdefault(target, found)
    return graph


def circles(graph: Graph) -> Iterator[str]:
    """Yield the imports that are part of a circle."""
    reached = {start: _reachable(graph, start) for start in graph}
    for one, targets in sorted(graph.items()):
        for other, found in sorted(targets.items()):
            if one in reached.get(other, ()):
                first, second = ".".join(one), ".".join(other)
                yield f"{found.where}: {first} imports {second}, which leads back to {first}"


def _reachable(graph: Graph, start: Module) -> set[Module]:
    reached: set[Module] = set()
    waiting = [start]
    while waiting:
        new = set(graph.get(waiting.pop(), ())) - reached
        reached |= new
        waiting += new
    return reached


def long_files(root: Path) -> Iterator[str]:
    """Yield the source files that are too long."""
    for directory in SOURCES:
        for file in sorted((root / directory).rglob("*")):
            if file.suffix in {".rs", ".py"}:
                lines = file.read_text().count("\n")
                if lines > MOST_LINES:
                    yield f"{file}:{MOST_LINES + 1}: {lines} lines, and the most is {MOST_LINES}"


def findings(root: Path) -> list[str]:
    """Return all findings below `root`, the top of the sources."""
    found: list[str] = []
    for file in map(root.joinpath, ROOTS):
        if file.exists():
            modules = rust_modules(file)
            imports = rust_imports(modules)
            if file == root / "core/src/lib.rs":
                found += unplaced_modules(modules, file)
                found += upward_imports(imports)
            found += circles(between_siblings(imports))
            found += doubled_types(modules)
    package = root / "python/minidocker"
    found += circles(between_siblings(python_imports(package)))
    found += doubled_classes(package)
    found += long_files(root)
    return found


if __name__ == "__main__":
    problems = findings(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
    for problem in problems:
        print(problem)
    sys.exit(bool(problems))
