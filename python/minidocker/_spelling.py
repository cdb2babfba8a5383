"""The engine's remedies and reasons in the words of Python, or of another language."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OPTIONS", "VERBATIM", "Remedy", "spell", "spelled"]

OPTIONS = {
    "groups": "extra_groups",
    "new_session": "start_new_session",
    "working_directory": "cwd",
}
"""The engine's name of an option -> its name in Python, where the two differ."""

_SETTINGS = {
    "new-namespace": "{neutral}: NamespaceOptions.with_{name}()",
    "shared-namespace": "{neutral}: NamespaceOptions.all().without_{name}()",
    "host-network": 'pass network="host"',
    "new-program": 'method="spawn"',
    "no-filter": 'pass seccomp="unconfined"',
    "subordinate-ids": 'leave extra_groups out, or set uid_map and gid_map to "auto"',
    "every-id": "pass uid_map=[(0, 0, 4294967295)] and gid_map=[(0, 0, 4294967295)]",
    "option": "{name}",
    "profile": 'profile="{name}"',
    "read-only-mount": "mounts=[Mount({path}, {path}, read_only=True)]",
}
"""How Python writes each setting that a remedy of the engine names."""

VERBATIM = frozenset({"profile", "read-only-mount"})
"""Settings that are no words: their sentences keep the case of their first letter."""


class Remedy(str):
    """A remedy of the engine in Python's words.

    Attributes:
        parts: the first four arguments of `spell`, which spells it in other words.
    """

    __slots__ = ("parts",)
    parts: tuple[str, str, str, str | None]


def spelled(text: str, setting: str, neutral: str, about: str | None) -> Remedy:
    """Return a remedy of the engine in Python's words; see `spell`."""
    remedy = Remedy(spell(text, setting, neutral, about, _in_python))
    remedy.parts = (text, setting, neutral, about)
    return remedy


def spell(
    text: str,
    setting: str,
    neutral: str,
    about: str | None,
    words: Callable[[str, str, str | None], str],
) -> str:
    """Return a remedy of the engine in the words of a language.

    Args:
        text: a sentence with ``{}`` in place of the setting.
        setting: the name of the setting.
        neutral: the setting in the engine's words.
        about: the kind of namespace, the option, the profile or the path that the setting is about.
        words: returns the setting in the language, from its name, the engine's words and the name
            of the kind or of the keyword.
    """
    name = about if setting in VERBATIM else OPTIONS.get(about or "", about)
    remedy = text.replace("{}", words(setting, neutral, name), 1)
    return remedy if setting in VERBATIM else remedy[:1].upper() + remedy[1:]


def _in_python(setting: str, neutral: str, name: str | None) -> str:
    # A setting that the table lacks keeps its neutral words.
    path = _quoted(name or "")
    return _SETTINGS.get(setting, "{neutral}").format(neutral=neutral, name=name, path=path)


def _quoted(text: str) -> str:
    """Return a string as Python source, in double quotes where it can be."""
    return f'"{text}"' if text.isprintable() and not {'"', "\\"} & set(text) else repr(text)
