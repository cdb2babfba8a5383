"""The command line parser.

The rules are docker's. Options end at the first operand, so the options of COMMAND need no ``--``
before them; ``--`` ends them too. One-letter flags combine (``-it``). A value is written as
``--name value``, ``--name=value``, ``-n value``, ``-nvalue`` or ``-n=value``. A flag may have a
truth value (``--init=false``). Names are never abbreviated.

:mod:`argparse` cannot follow these rules. It refuses a value that begins with a dash
(``--name -x``) and a flag with a truth value. It takes options after the first operand unless that
is ``REMAINDER``, and then it leaves ``--`` among the operands. Completion and the tables of the
manual read the parser's own rows; with argparse they would have to read private attributes. Also,
importing argparse takes longer than importing this parser and its table.
"""

from __future__ import annotations

from minidocker._words import nearest

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_TRUTH = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


_LETTERS = {
    "-P": "publish_all",
    "-a": "attach",
    "-c": "cpu_shares",
    "-d": "detach",
    "-l": "label",
    "-m": "memory",
    "-p": "publish",
}
"""The letters of docker's options that are no options here."""


class UsageError(Exception):
    """A wrong command line. The message is one line and names what to change."""


class Parsed:
    """A parsed command line.

    Attributes:
        command: the subcommand.
        keywords: the keywords of :class:`minidocker.Popen` that one option alone determines.
        settings: the values of all other options, by name.
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
        names: the long name, preceded by the one-letter name if there is one.
        store: stores the converted value; see :func:`keyword` and the functions after it.
        summary: one sentence without a full stop, for ``--help`` and the manual.
        example: a whole command line with this option, for the manual.
        metavar: the name of the value; None for a flag.
        convert: converts text to a value; its :exc:`ValueError` becomes a usage error.
        words: values, or beginnings of values, that completion offers.
        complete: the kind of further words that completion offers: ``"file"``, ``"directory"``,
            ``"user"``, ``"variable"`` or ``"container"`` (a PID, after a word of ``words`` that
            ends in a colon if there is one).
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
        """All names and the metavar, as help and manual show them."""
        names = list(self.names)
        if self.negatable:
            names[-1] = f"--[no-]{self.long[2:]}"
        return ", ".join(names) + (f" {self.metavar}" if self.metavar else "")


class Command:
    """A subcommand.

    Args:
        name: its word on the command line.
        summary: one sentence for ``--help``.
        options: its rows of the table.
        operands: the operands in the usage line, such as ``"COMMAND [ARG ...]"``.
        fewest: the smallest number of operands.
        most: the largest number of operands; None for any number.
        execs: the position of the operand that begins another command line, for completion.
        invocation: the words that invoke it; by default ``minidocker`` and the name.
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
        """Map each name on the command line to its option and whether the name negates it."""
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
        UsageError: the words are wrong; the message names the first error.
        HelpRequested: ``--help`` comes before the first error.
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
        _store_flag(parsed, option, name, value=value != negated)
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
            value = _truth(parsed.command, name, letters[1:])
            _store_flag(parsed, option, name, value=value)
            return
        _store_flag(parsed, option, name, value=True)


def _next(command: Command, option: Option, name: str, rest: list[str]) -> str:
    if not rest:
        raise UsageError(
            f"{command.name}: {name} needs a value ({option.metavar}), as in: {option.example}"
        )
    return rest.pop()


def _store_flag(parsed: Parsed, option: Option, name: str, *, value: bool) -> None:
    try:
        option.store(parsed, value)
    except ValueError as error:
        raise UsageError(f"{parsed.command.name}: {name}={str(value).lower()}: {error}") from error


def _convert_and_store(parsed: Parsed, option: Option, name: str, text: str) -> None:
    try:
        option.store(parsed, option.convert(text))
    except (ValueError, OSError) as error:
        # OSError: for example, a relative path after the working directory was removed.
        raise UsageError(
            f"{parsed.command.name}: invalid value {text!r} for {name}: {error}"
        ) from error


def _truth(command: Command, name: str, text: str) -> bool:
    try:
        return _TRUTH[text.lower()]
    except KeyError:
        raise UsageError(
            f"{command.name}: {name} is a flag; give it alone, or as {name}=true or {name}=false, "
            f"not with the value {text!r}"
        ) from None


def _unknown(
    command: Command, name: str, table: dict[str, tuple[Option, bool]], inside: str = ""
) -> str:
    # Docker's options with a single letter have a long name too.
    word = _LETTERS.get(name, name.removeprefix("--"))
    explained = None
    if "--user" in table:  # a command that runs one, as docker run and docker exec do
        from minidocker._vocabulary import sentence
        from minidocker.cli.flags import flag

        explained = sentence(word, flag, command_line=True)
    if explained is not None:
        return f"{command.name}: unknown option {name}{inside}: {explained}"
    # Any two single letters are equally near, so only a long name has a nearest one.
    known = [each for each in (*table, "--help") if each.startswith("--")]
    near = nearest(name, known) or nearest(name.removeprefix("--no-"), known)
    remedy = (
        f"did you mean {near}?"
        if near and name.startswith("--")
        else f"see {command.invocation} --help"
    )
    return f"{command.name}: unknown option {name}{inside}; {remedy}"


def _check_operands(parsed: Parsed) -> None:
    command, count = parsed.command, len(parsed.operands)
    if count < command.fewest:
        missing = command.operands.split(" ")[count]
        raise UsageError(f"{command.name}: {missing} is missing; usage: {command.usage}")
    if command.execs is not None and not parsed.operands[command.execs]:
        raise UsageError(f"{command.name}: COMMAND is empty; usage: {command.usage}")
    if command.most is not None and count > command.most:
        extra = parsed.operands[command.most]
        raise UsageError(f"{command.name}: unexpected operand {extra!r}; usage: {command.usage}")


def keyword(name: str) -> Callable[[Parsed, Any], None]:
    """Store the value as a keyword of :class:`minidocker.Popen`; the last value counts."""

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
    """Store the value as a setting of the command line itself; the last value counts."""

    def store(parsed: Parsed, value: Any) -> None:
        parsed.settings[name] = value

    return store


def setting_items(name: str) -> Callable[[Parsed, Any], None]:
    """Collect the values of a repeated option into a list, as a setting."""

    def store(parsed: Parsed, value: Any) -> None:
        parsed.settings.setdefault(name, []).append(value)

    return store
