"""How a command line is read.

The rules are docker's: options end at the first operand, so that the options of COMMAND need no
``--`` before them; ``--`` ends them too; one-letter flags combine (``-it``); values come as
``--name value``, ``--name=value``, ``-n value``, ``-nvalue`` or ``-n=value``; a flag may be given a
truth value (``--init=false``); names are never abbreviated.

:mod:`argparse` cannot follow them. It refuses a value that begins with a dash (``--name -x``) and a
flag with a truth value, it takes options after the first operand unless that is ``REMAINDER``, and
then it leaves ``--`` among the operands. Completion and the tables of the manual read the same rows
as the parser does, and could only read argparse's private attributes. And its import takes longer
than that of this parser and its table, in a program that is started often.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_TRUTH = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


class UsageError(Exception):
    """A command line that cannot be meant. The message is one line and names what to change."""


class Parsed:
    """A command line that was read.

    Attributes:
        command: the subcommand.
        keywords: keywords for :class:`minidocker.Popen`, as far as one option gives them.
        settings: everything else that options said, by name.
        operands: the words after the options.
    """

    def __init__(self, command: Command) -> None:
        self.command = command
        self.keywords: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}
        self.operands: list[str] = []


class Option:
    """One row of the table of options.

    Args:
        names: the long name, with the one-letter name before it where there is one.
        store: puts the converted value where it belongs; see :func:`keyword` and its neighbours.
        summary: one sentence without a full stop, for ``--help`` and the manual.
        example: a whole command line that uses it; ``docs/cli.md`` shows it.
        metavar: name of the value; None for a flag.
        convert: from text to value; a :exc:`ValueError` that it raises becomes a usage error.
        words: the values, or beginnings of values, that completion offers.
        complete: what else completion offers: ``"file"``, ``"directory"``, ``"user"``,
            ``"variable"`` or ``"container"`` (which comes after a word ending in a colon, if any).
        negatable: whether ``--no-NAME`` is an option too.
    """

    def __init__(
        self,
        *names: str,
        store: Callable[[Parsed, Any], None],
        summary: str,
        example: str,
        metavar: str | None = None,
        convert: Callable[[str], Any] = str,
        words: tuple[str, ...] = (),
        complete: str = "",
        negatable: bool = False,
    ) -> None:
        self.names = names
        self.store = store
        self.summary = summary
        self.example = example
        self.metavar = metavar
        self.convert = convert
        self.words = words
        self.complete = complete
        self.negatable = negatable

    @property
    def long(self) -> str:
        """The long name, with its dashes."""
        return self.names[-1]

    @property
    def spelling(self) -> str:
        """All names and the value, as help and manual show them."""
        names = list(self.names)
        if self.negatable:
            names[-1] = f"--[no-]{self.long[2:]}"
        return ", ".join(names) + (f" {self.metavar}" if self.metavar else "")


class Command:
    """A subcommand.

    Args:
        name: its word on the command line.
        summary: one sentence for ``--help``.
        operands: how usage shows them, such as ``"COMMAND [ARG ...]"``.
        fewest: how many operands it needs.
        most: how many it takes; None for any number.
        options: its rows of the table.
        execs: position of the operand at which another command line begins, for completion.
        invocation: how it is called; by default as a subcommand of ``minidocker``.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        options: Iterable[Option],
        *,
        operands: str = "",
        fewest: int = 0,
        most: int | None = 0,
        execs: int | None = None,
        invocation: str | None = None,
    ) -> None:
        self.name = name
        self.invocation = invocation or f"minidocker {name}"
        self.summary = summary
        self.options = tuple(options)
        self.operands = operands
        self.fewest = fewest
        self.most = most
        self.execs = execs

    @property
    def usage(self) -> str:
        """The usage line, without the word "Usage"."""
        words = (self.invocation, "[OPTIONS]" if self.options else "", self.operands)
        return " ".join(word for word in words if word)

    def spellings(self) -> dict[str, tuple[Option, bool]]:
        """Return every name on the command line to its option and whether it negates it."""
        table = {}
        for option in self.options:
            for name in option.names:
                table[name] = (option, False)
            if option.negatable:
                table[f"--no-{option.long[2:]}"] = (option, True)
        return table


class HelpRequested(Exception):
    """``--help`` was among the options of a subcommand."""


def parse(command: Command, arguments: list[str]) -> Parsed:
    """Read the words after the subcommand.

    Raises:
        UsageError: the first thing that is wrong.
        HelpRequested: ``--help`` came first.
    """
    parsed = Parsed(command)
    table = command.spellings()
    words = list(reversed(arguments))
    while words:
        word = words.pop()
        if word == "--":
            break
        if word.startswith("--"):
            _long(parsed, table, word, words)
        elif word.startswith("-") and word != "-":
            _short(parsed, table, word, words)
        else:
            words.append(word)
            break
    parsed.operands = words[::-1]
    _check_operands(parsed)
    return parsed


def _long(
    parsed: Parsed, table: dict[str, tuple[Option, bool]], word: str, rest: list[str]
) -> None:
    name, equals, text = word.partition("=")
    if name == "--help":
        raise HelpRequested
    if name not in table:
        raise UsageError(_unknown(parsed.command, name, table))
    option, negated = table[name]
    if option.metavar is None or negated:
        value = _truth(parsed.command, name, text) if equals else True
        option.store(parsed, value != negated)
    else:
        if not equals:
            text = _next(parsed.command, option, name, rest)
        _convert_and_store(parsed, option, name, text)


def _short(
    parsed: Parsed, table: dict[str, tuple[Option, bool]], word: str, rest: list[str]
) -> None:
    letters = word[1:]
    while letters:
        name, letters = f"-{letters[0]}", letters[1:]
        if name not in table:
            inside = f" (in {word})" if len(word) > 2 else ""
            raise UsageError(_unknown(parsed.command, name, table, inside))
        option, _ = table[name]
        if option.metavar is not None:
            text = letters.removeprefix("=") or (
                "" if letters else _next(parsed.command, option, name, rest)
            )
            _convert_and_store(parsed, option, name, text)
            return
        if letters.startswith("="):
            option.store(parsed, _truth(parsed.command, name, letters[1:]))
            return
        option.store(parsed, True)


def _next(command: Command, option: Option, name: str, rest: list[str]) -> str:
    if not rest:
        raise UsageError(
            f"{command.name}: {name} needs a value ({option.metavar}), as in: {option.example}"
        )
    return rest.pop()


def _convert_and_store(parsed: Parsed, option: Option, name: str, text: str) -> None:
    try:
        option.store(parsed, option.convert(text))
    except (ValueError, OSError) as error:
        # A relative path, for one, where the working directory has been removed.
        raise UsageError(
            f"{parsed.command.name}: invalid value {text!r} for {name}: {error}"
        ) from error


def _truth(command: Command, name: str, text: str) -> bool:
    try:
        return _TRUTH[text.lower()]
    except KeyError:
        raise UsageError(
            f"{command.name}: {name} is a flag: give it alone, or as {name}=true or {name}=false, "
            f"not with the value {text!r}"
        ) from None


def _unknown(
    command: Command, name: str, table: dict[str, tuple[Option, bool]], inside: str = ""
) -> str:
    import difflib

    # Single letters are all alike, so only a long name has a nearest one.
    near = difflib.get_close_matches(name, [*table, "--help"], 1) if name.startswith("--") else []
    remedy = f"did you mean {near[0]}?" if near else f"see {command.invocation} --help"
    return f"{command.name}: unknown option {name}{inside}; {remedy}"


def _check_operands(parsed: Parsed) -> None:
    command, count = parsed.command, len(parsed.operands)
    if count < command.fewest:
        missing = command.operands.split(" ")[count]
        raise UsageError(f"{command.name}: {missing} is missing; usage: {command.usage}")
    if command.most is not None and count > command.most:
        extra = parsed.operands[command.most]
        raise UsageError(f"{command.name}: unexpected operand {extra!r}; usage: {command.usage}")


def keyword(name: str) -> Callable[[Parsed, Any], None]:
    """Store the value as a keyword of :class:`minidocker.Popen`; the last one counts."""

    def store(parsed: Parsed, value: Any) -> None:
        parsed.keywords[name] = value

    return store


def keyword_items(name: str) -> Callable[[Parsed, Any], None]:
    """Collect the values of a repeated option into a list, as a keyword."""

    def store(parsed: Parsed, value: Any) -> None:
        parsed.keywords.setdefault(name, []).append(value)

    return store


def keyword_mapping(name: str) -> Callable[[Parsed, Any], None]:
    """Collect ``(key, value)`` pairs of a repeated option into a dictionary, as a keyword."""

    def store(parsed: Parsed, value: Any) -> None:
        key, content = value
        parsed.keywords.setdefault(name, {})[key] = content

    return store


def setting(name: str) -> Callable[[Parsed, Any], None]:
    """Store the value as a setting of the command line itself; the last one counts."""

    def store(parsed: Parsed, value: Any) -> None:
        parsed.settings[name] = value

    return store


def setting_items(name: str) -> Callable[[Parsed, Any], None]:
    """Collect the values of a repeated option into a list, as a setting."""

    def store(parsed: Parsed, value: Any) -> None:
        parsed.settings.setdefault(name, []).append(value)

    return store
