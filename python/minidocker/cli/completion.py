"""Completion candidates for the word under the cursor.

The three shell scripts know no options. They run ``minidocker __complete WORD...``, where the last
word, possibly empty, is the one to complete. The output is one candidate a line, followed by a tab
and its description where it has one. The last line is a directive that tells the shell what to add:
``:files PREFIX``, ``:directories PREFIX`` (PREFIX is the part of the word before the path, such as
``--env-file=``), ``:command N`` (another command line begins at word N) or ``:nothing``.
"""

from __future__ import annotations

import os

from minidocker.cli.errors import output
from minidocker.cli.options import COMMANDS

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minidocker.cli.parser import Command, Option

#: Shells for which there is a script.
SHELLS = ("bash", "zsh", "fish")


def script(shell: str) -> str:
    """Return the completion script of one of :data:`SHELLS`."""
    path = os.path.join(os.path.dirname(__file__), "shells", f"minidocker.{shell}")
    with open(path, encoding="ascii") as file:
        return file.read()


def answer(words: list[str]) -> int:
    """Print the candidates for the last of ``words`` and return 0."""
    candidates, directive = complete(words)
    lines = [f"{word}\t{text}" if text else word for word, text in candidates]
    output("".join(f"{line}\n" for line in (*lines, f":{directive}")))
    return 0


def complete(words: list[str]) -> tuple[list[tuple[str, str]], str]:
    """Return candidates with their descriptions, and the directive for the shell."""
    *before, word = words or [""]
    if not before:
        commands = [(command.name, command.summary) for command in COMMANDS.values()]
        options = [("--help", "Print help"), ("--version", "Print the version")]
        return _beginning(options if word.startswith("-") else commands, word), "nothing"
    command = COMMANDS.get(before[0])
    if command is None:
        return [], "nothing"
    return _in_command(command, before[1:], word)


def _in_command(
    command: Command, before: list[str], word: str
) -> tuple[list[tuple[str, str]], str]:
    table = command.spellings()
    position = 0
    while position < len(before):
        current = before[position]
        if current == "--":
            position += 1
            break
        if not current.startswith("-") or current == "-":
            break
        position += 1
        option = _option_awaiting_value(table, current)
        if option is not None:
            if position == len(before):
                return _values(option, word, "")
            position += 1
    else:
        name, equals, text = word.partition("=")
        if equals and name in table and table[name][0].metavar:
            return _values(table[name][0], text, f"{name}=")
        if word.startswith("-"):
            return _beginning(list(_names(command)), word), "nothing"
    return _operand(command, before[position:], word, position)


def _option_awaiting_value(table: dict[str, tuple[Option, bool]], word: str) -> Option | None:
    """Return the option whose value is the word after ``word``."""
    if word.startswith("--"):
        option, _ = table.get(word, (None, False))
        return option if option is not None and option.metavar else None
    for position, letter in enumerate(word[1:], 1):
        option, _ = table.get(f"-{letter}", (None, False))
        if option is None:
            return None
        if option.metavar:
            return option if position == len(word) - 1 else None
    return None


def _names(command: Command) -> Iterator[tuple[str, str]]:
    for option in command.options:
        for name in option.names:
            yield name, option.summary
        if option.negatable:
            yield f"--no-{option.long[2:]}", f"Not: {option.summary}"
    yield "--help", "Print help"


def _operand(
    command: Command, before: list[str], word: str, position: int
) -> tuple[list[tuple[str, str]], str]:
    if command.execs is not None and len(before) >= command.execs:
        # Position 0 of the whole line is "minidocker" and position 1 the subcommand.
        return [], f"command {2 + position + command.execs}"
    if command.name == "completion" and not before:
        return _beginning([(shell, "") for shell in SHELLS], word), "nothing"
    if command.operands.startswith("PID") and not before:
        return _beginning(list(_containers()), word), "nothing"
    return [], "nothing"


def _values(option: Option, word: str, prefix: str) -> tuple[list[tuple[str, str]], str]:
    kind = option.complete
    if kind in ("file", "directory"):
        return [], f"{'files' if kind == 'file' else 'directories'} {prefix}".rstrip()
    choices = [(choice, "") for choice in option.words]
    if kind == "variable":
        choices += [(name, "") for name in sorted(os.environ)]
    elif kind == "user":
        import pwd

        choices += [(entry.pw_name, entry.pw_gecos) for entry in pwd.getpwall()]
    elif kind == "container":
        start = next((choice for choice in option.words if choice.endswith(":")), "")
        if word.startswith(start):
            choices += [(f"{start}{pid}", text) for pid, text in _containers()]
    # The value is a list: only its last item is being typed.
    if option.metavar and "," in option.metavar and "," in word:
        done, _, word = word.rpartition(",")
        prefix += f"{done},"
        choices = [choice for choice in choices if choice[0] not in done.split(",")]
    return [(prefix + choice, text) for choice, text in _beginning(choices, word)], "nothing"


def _containers() -> Iterator[tuple[str, str]]:
    from minidocker._inspect import proc
    from minidocker._inspect.text import printable

    for found in proc.containers():
        yield str(found.pid), printable(found.command)


def _beginning(choices: list[tuple[str, str]], word: str) -> list[tuple[str, str]]:
    return [choice for choice in choices if choice[0].startswith(word)]
