"""The pages of the documentation: their blocks of code, and scripts made from them."""

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import NamedTuple

from support.places import REPOSITORY

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]
_BLOCK = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    """The path of the page in the repository."""
    line: int
    language: str
    text: str


def name_of(page: Path) -> str:
    """Return the path of a page in the repository."""
    return str(page.relative_to(REPOSITORY))


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text()
    return [
        Block(name_of(page), text.count("\n", 0, found.start()) + 1, found[2], found[3])
        for found in _BLOCK.finditer(text)
    ]


def prose(page: Path) -> str:
    """Return the text of a page without its fenced blocks, which leave empty lines."""
    return _BLOCK.sub(lambda found: "\n" * found[0].count("\n"), page.read_text())


def script(code: str) -> str:
    """Return an ordinary guarded script: imports and definitions, then the statements.

    A comment that is a value, after an expression, becomes a check of the expression.
    """
    values = _values(code)

    class Check(ast.NodeTransformer):
        def visit_Expr(self, node: ast.Expr) -> ast.Expr:
            expected = values.get(node.end_lineno or 0)
            if expected is None:
                return node
            where = ast.Constant(ast.unparse(node))
            call = ast.Call(ast.Name("check"), [where, node.value, expected], [])
            return ast.copy_location(ast.Expr(call), node)

    definitions: list[str] = []
    statements: list[str] = []
    for node in ast.parse(code).body:
        checked = ast.fix_missing_locations(Check().visit(node))
        is_definition = isinstance(
            node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
        )
        (definitions if is_definition else statements).append(ast.unparse(checked))
    body = "\n".join(statements).replace("\n", "\n    ")
    return "\n".join([*definitions, _CHECK, 'if __name__ == "__main__":', f"    {body}", ""])


_CHECK = """
def check(expression, value, expected):
    assert value == expected, f"{expression} is {value!r}, and the page says {expected!r}"
"""


def _values(code: str) -> dict[int, ast.expr]:
    """Return the comments that are values, by line."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ")
            try:
                ast.literal_eval(text)
            except (ValueError, SyntaxError):
                continue
            found[token.start[0]] = ast.parse(text, mode="eval").body
    return found
