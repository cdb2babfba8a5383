"""The manual agrees with the table of options."""

import shlex
from pathlib import Path

import pytest

from minidocker.cli.options import COMMANDS
from minidocker.cli.parser import parse
from minidocker.cli.reference import main, updated
from support.places import REPOSITORY

MANUAL = REPOSITORY / "docs" / "cli.md"
OPTIONS = [
    pytest.param(command, option, id=f"{command.name} {option.long}")
    for command in COMMANDS.values()
    for option in command.options
]


def test_the_manual_is_up_to_date():
    text = MANUAL.read_text()
    assert updated(text) == text, f"run: python -m minidocker.cli.reference {MANUAL.name}"


def test_the_manual_has_a_section_for_each_command():
    text = MANUAL.read_text()
    for command in COMMANDS.values():
        assert f"\n## {command.name}\n\n<!-- options: {command.name} -->\n" in text
        assert f"`{command.usage}`" in text or f"\n{command.usage}\n" in text


def test_a_manual_is_brought_up_to_date_in_place(tmp_path):
    file = tmp_path / "manual.md"
    file.write_text("before\n<!-- options: ps -->\nold\n<!-- end -->\nafter\n")
    main([str(file)])
    text = file.read_text()
    assert "old" not in text
    assert "`-q, --quiet`" in text
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_an_example_uses_its_option_and_can_be_read(command, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("settings.env").write_text("A=1\n")
    words = shlex.split(option.example.rpartition(" | ")[2])
    assert words[0] == "minidocker"
    # An option of several commands has an example of one of them.
    parsed = parse(COMMANDS[words[1]], words[2:])
    assert option in parsed.command.options
    names = {name for word in words for name in (word.partition("=")[0], word[:2])}
    letters = {f"-{letter}" for word in words if word[:2] != "--" for letter in word[1:]}
    spelt = {*option.names, f"--no-{option.long[2:]}"}
    assert spelt & (names | letters), f"{option.example} does not show {option.long}"
