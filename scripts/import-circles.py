"""Fail where modules of a package import each other in a circle: import-circles.py DIRECTORY.

Imports inside functions and under TYPE_CHECKING count: whoever reads one module of a circle has to
read all of them.
"""

import ast
import graphlib
import itertools
import sys
from pathlib import Path


def imports(package: Path) -> dict[str, dict[str, str]]:
    """Return module → module that it imports → the line that does."""
    root = package.resolve().parent
    files = {}
    for path in package.resolve().rglob("*.py"):
        *parents, stem = path.relative_to(root).with_suffix("").parts
        files[".".join(parents if stem == "__init__" else [*parents, stem])] = path
    found: dict[str, dict[str, str]] = {}
    for module, path in files.items():
        edges = found.setdefault(module, {})
        for node in ast.walk(ast.parse(path.read_bytes())):
            for name in _names(node, files):
                if name in files and name != module:
                    edges.setdefault(name, f"{path.relative_to(root.parent)}:{node.lineno}")
    return found


def _names(node: ast.AST, files: dict[str, Path]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
        # The compiled module has no file here, and imports nothing.
        whole = [f"{node.module}.{alias.name}" for alias in node.names if alias.name != "_core"]
        return [name if name in files else node.module for name in whole]
    return []


def main(package: str) -> int:
    """Print the lines that make a circle, if there is one; return the exit status."""
    found = imports(Path(package))
    try:
        graphlib.TopologicalSorter(found).prepare()
    except graphlib.CycleError as error:
        # It names each module before the one that imports it.
        circle = list(reversed(error.args[1]))
        print("modules import each other in a circle:", file=sys.stderr)
        for module, imported in itertools.pairwise(circle):
            print(f"{found[module][imported]}: {module} imports {imported}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
