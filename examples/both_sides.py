"""What the examples share: a table of what each side sees, and statements that have to be true."""

import unicodedata


def _width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


class BothSides:
    """A table with a column for each side, and under it what it shows.

    Args:
        title: what the example shows, in a sentence.
        sides: the names of the columns.
    """

    def __init__(self, title: str, sides: tuple[str, str] = ("host", "container")) -> None:
        self._title = title
        self._rows = [("", *sides)]
        self._statements: list[tuple[str, bool]] = []

    def row(self, name: str, host: object, container: object) -> None:
        """Add what each side sees of one thing."""
        self._rows.append((name, str(host), str(container)))

    def shows(self, statement: str, held: bool) -> None:
        """Add a statement, and whether what was seen bears it out."""
        self._statements.append((statement, held))

    def print(self) -> int:
        """Print all of it. Return the exit status: 0 if every statement is true."""
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
