"""Suggestions for words that do not exist."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["nearest"]

_SHORTEST_ABBREVIATION = 3


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that ``word`` misspells or abbreviates, None if there is none.

    A misspelling has at most one wrong letter in three. An abbreviation is a beginning, or has more
    than half of the letters. Upper case, dashes and underscores do not count.
    """
    given = _letters(word)
    found = None
    fewest = len(given) + 1
    for candidate in sorted(known):
        letters = _letters(candidate)
        errors = 0 if _abbreviates(given, letters) else _errors(given, letters)
        if errors <= max(len(given), len(letters)) // 3 and errors < fewest:
            found, fewest = candidate, errors
    return found


def _letters(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")


def _abbreviates(given: str, letters: str) -> bool:
    if len(given) < _SHORTEST_ABBREVIATION or given[0] != letters[0]:
        return False
    if letters.startswith(given):
        return True
    rest = iter(letters)
    return 2 * len(given) > len(letters) and all(letter in rest for letter in given)


def _errors(given: str, letters: str) -> int:
    """Return how many letters are wrong, missing, superfluous or swapped with the next one.

    This is the restricted Damerau-Levenshtein distance.
    """
    two_above: list[int] = []
    above = list(range(len(letters) + 1))
    for row, letter in enumerate(given, 1):
        current = [row]
        for column, other in enumerate(letters, 1):
            best = min(
                above[column] + 1,
                current[column - 1] + 1,
                above[column - 1] + (letter != other),
            )
            if row > 1 and column > 1 and letter == letters[column - 2] and given[row - 2] == other:
                best = min(best, two_above[column - 2] + 1)
            current.append(best)
        two_above, above = above, current
    return above[-1]
