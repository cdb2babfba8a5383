"""A command line that is given as the name of a program."""

import pytest

import minidocker


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo 'a b' c", "['echo', 'a b', 'c']"), (b"echo x", "['echo', 'x']"),
        ("echo 'x", '''['echo', "'x"]'''),
    ],
)  # fmt: skip
def test_a_command_line_as_a_string_is_refused_with_the_remedy(leaks, command, words):
    with pytest.raises(minidocker.CommandNotFound) as caught:
        minidocker.run(command)
    assert caught.value.hint == (
        f"a string is the name of a program: give the list {words}, or shell=True"
    )
    assert caught.value.filename == command


def test_a_string_without_spaces_is_a_program(leaks):
    assert minidocker.run("true").returncode == 0
    with pytest.raises(minidocker.CommandNotFound) as caught:
        minidocker.run("nosuchprogram")
    assert "shell=True" not in str(caught.value)
