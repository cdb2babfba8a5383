"""Suggestions name only words that are near."""

import pytest

from minidocker._spec.options import SUBPROCESS_KEYWORDS
from minidocker._spec.spec import FIELDS
from minidocker._words import nearest
from minidocker.cli.options import COMMANDS

KEYWORDS = [*FIELDS, *SUBPROCESS_KEYWORDS]
FLAGS = [name for name in COMMANDS["run"].spellings() if name.startswith("--")]


@pytest.mark.parametrize(
    ("word", "known", "found"),
    [
        ("hostnme", KEYWORDS, "hostname"),
        ("host_name", KEYWORDS, "hostname"),
        ("hsotname", KEYWORDS, "hostname"),
        ("hostnames", KEYWORDS, "hostname"),
        ("readonly", KEYWORDS, "read_only"),
        ("net", KEYWORDS, "network"),
        ("mount", KEYWORDS, "mounts"),
        ("usr", KEYWORDS, "user"),
        ("mnts", KEYWORDS, "mounts"),
        ("envs", KEYWORDS, "env"),
        ("--Read-Only", FLAGS, "--read-only"),
        ("--interact", FLAGS, "--interactive"),
        ("--workdri", FLAGS, "--workdir"),
        ("bnid", ["bind", "tmpfs"], "bind"),
        # Those that once had a misleading suggestion.
        ("rm", KEYWORDS, None),
        ("--cpus", FLAGS, None),
        ("ports", KEYWORDS, None),
        ("image", KEYWORDS, None),
        ("x", KEYWORDS, None),
        ("", KEYWORDS, None),
        ("-", FLAGS, None),
    ],
)
def test_a_suggestion_is_a_misspelling_or_an_abbreviation(word, known, found):
    assert nearest(word, known) == found


@pytest.mark.parametrize("known", [KEYWORDS, FLAGS], ids=["keywords", "flags"])
def test_a_word_with_two_letters_swapped_suggests_the_word(known):
    for word in known:
        letters = word.removeprefix("--")
        if len(letters) > 3:
            swapped = letters[1] + letters[0] + letters[2:]
            assert nearest(swapped, known) == word
