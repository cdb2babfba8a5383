"""Shared by the examples: a table with a column for each side, and statements about it."""

import unicodedata


def _width(text: str) -> int:
    """Return the number of terminal columns that a text takes."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


class BothSides:
    """A table with a column for each side, and statements that it supports.

    Args:
        title: one sentence about the example.
        sides: the names of the columns.
    """

    def __init__(self, title: str, sides: tuple[str, str] = ("host", "container")) -> None:
        self._title = title
        self._rows = [("", *sides)]
        self._statements: list[tuple[str, bool]] = []

    def row(self, name: str, host: object, container: object) -> None:
        """Add a row: the name of a thing, and how each side sees it."""
        self._rows.append((name, str(host), str(container)))

    def shows(self, statement: str, held: bool) -> None:
        """Add a statement, and whether it is true."""
        self._statements.append((statement, held))

    def print(self) -> int:
        """Print the table and the statements. Return 0 if every statement is true, else 1."""
        print(f"{self._title}\n")
        widths = [max(_width(row[column]) for row in self._rows) for column in range(3)]
        for number, row in enumerate(self._rows):
            cells = [
                cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
            ]
            print(f"  {' │ '.join(cells)}".rstrip())
            if number == 0:
                print("  " + "─┼─".join("─" * width for width in widths))
        print()
        for statement, held in self._statements:
            print(f"  {'ok' if held else 'NO'}  {statement}")
        return 0 if all(held for _, held in self._statements) else 1
